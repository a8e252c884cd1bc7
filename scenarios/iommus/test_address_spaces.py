"""What do the calls do with which an iommufd's address spaces are shared, limited and charged?

Kernel: drivers/iommu/iommufd/ioas.c, iommufd_ioas_copy(), iommufd_ioas_allow_iovas(),
iommufd_ioas_change_process() and iommufd_option_rlimit_mode(); drivers/iommu/iommufd/pages.c.
"""

from errno import EADDRINUSE, EBUSY, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP
from functools import partial

import pytest

from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.drivers.igb import SOURCE, TARGET, UNTOUCHED
from vfio_lab.uapi.iommufd import (
    IOMMU_IOAS_MAP_READABLE,
    IOMMU_OPTION_HUGE_PAGES,
    IOMMU_OPTION_OP_GET,
    IOMMU_OPTION_OP_SET,
    IOMMU_OPTION_RLIMIT_MODE,
)
from vfio_lab.uapi.syscalls import CAP_IPC_LOCK
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.exhaustion import memfd
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.many import repeat
from vfio_lab_pytest.verdicts import outcome, refused

IOVA, OTHER = 0x40_0000, 0x80_0000
SIZE = 4 * PAGE_BYTES
MIB = 1 << 20
LAST_MIB = (1 << 64) - MIB
MESSAGE = bytes(range(64))
NOTHING = UNTOUCHED * len(MESSAGE)


@pytest.fixture
def user(request, guest):
    """The user that holds the device; without CAP_IPC_LOCK where a parameter says so."""
    return guest.user("user", drop=[CAP_IPC_LOCK] if hasattr(request, "param") else [])


def at_once(call, inherited):
    """Make a call while the user of an inherited iommufd asks for the charges, or finds it busy."""
    moving = inherited.start_change_process()
    call()
    assert outcome(moving.wait) in (0, EBUSY)


@claim("K01")
def test_a_copy_maps_the_same_memory(ioas_copier, ioas):
    """A device reaches through a copied mapping what it reached through the first one."""
    device, iommufd = ioas_copier.device, ioas_copier.device.iommufd
    twin = iommufd.ioas_alloc()
    pages = (ioas_copier.rings, ioas_copier.source, ioas_copier.target)
    _ = [iommufd.ioas_copy(ioas, each.iova, twin, PAGE_BYTES, each.iova) for each in pages]
    device.attach_iommufd_pt(twin)
    iommufd.destroy(ioas)
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("K02")
def test_a_copy_for_reading_is_not_written(ioas_copier, ioas):
    """A device does not write to a page through a copy that was made for reading."""
    iommufd, spare = ioas_copier.device.iommufd, ioas_copier.device.iommufd.ioas_alloc()
    iommufd.ioas_copy(ioas, TARGET, spare, PAGE_BYTES, OTHER)
    iommufd.ioas_unmap(ioas, TARGET, PAGE_BYTES)
    iommufd.ioas_copy(spare, OTHER, ioas, PAGE_BYTES, TARGET, IOMMU_IOAS_MAP_READABLE)
    assert ioas_copier.copy(MESSAGE) == NOTHING
    iommufd.ioas_unmap(ioas, TARGET, PAGE_BYTES)
    iommufd.ioas_copy(spare, OTHER, ioas, PAGE_BYTES, TARGET)
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("K03")
def test_only_what_is_mapped_is_copied(attached, ioas):
    """A copy of what is not mapped fails with ENOENT; a copy without access with EINVAL."""
    iommufd, twin = attached.iommufd, attached.iommufd.ioas_alloc()
    iommufd.ioas_map(ioas, attached.user.allocate(SIZE), SIZE, IOVA)
    with refused(ENOENT):
        iommufd.ioas_copy(ioas, IOVA + SIZE, twin, PAGE_BYTES)
    with refused(EINVAL):
        iommufd.ioas_copy(ioas, IOVA, twin, SIZE, flags=0)
    assert iommufd.ioas_copy(ioas, IOVA + PAGE_BYTES, twin, PAGE_BYTES, OTHER) == OTHER


@claim("K04")
def test_copied_memory_is_pinned_once(user, attached, ioas):
    """Memory that two address spaces map is pinned once, until both have unmapped it."""
    iommufd, twin = attached.iommufd, attached.iommufd.ioas_alloc()
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA)
    iommufd.ioas_copy(ioas, IOVA, ioas, SIZE, OTHER)
    iommufd.ioas_copy(ioas, IOVA, twin, SIZE, OTHER)
    assert pinned_bytes(user) == SIZE
    iommufd.ioas_unmap(ioas, IOVA, SIZE)
    assert pinned_bytes(user) == SIZE
    iommufd.ioas_unmap(ioas, OTHER, SIZE)
    assert pinned_bytes(user) == 0


@claim("K05")
def test_ranges_that_are_allowed_stay_allowed(bound_device, ioas, interrupt_window):
    """Addresses that are allowed cannot be lost to a device; the kernel chooses among them."""
    iommufd = bound_device.iommufd
    iommufd.ioas_allow_iovas(ioas, [(0, interrupt_window[-1])])
    with refused(EADDRINUSE):
        bound_device.attach_iommufd_pt(ioas)
    iommufd.ioas_allow_iovas(ioas, [(IOVA, IOVA + SIZE - 1)])
    assert bound_device.attach_iommufd_pt(ioas) > 0
    memory = bound_device.user.allocate(SIZE)
    assert iommufd.ioas_map(ioas, memory, SIZE) == IOVA


@claim("K38")
def test_no_address_is_chosen_beyond_the_last_one(bound_device, ioas):
    """A mapping whose aligned address would wrap fails with ENOSPC, and a smaller one fits."""
    iommufd, user = bound_device.iommufd, bound_device.user
    aligned = -(-user.allocate(4 * MIB) // (2 * MIB)) * 2 * MIB
    iommufd.ioas_allow_iovas(ioas, [(LAST_MIB, LAST_MIB + SIZE - 1)])
    with refused(ENOSPC):
        iommufd.ioas_map(ioas, aligned, 2 * MIB)
    assert iommufd.ioas_map(ioas, aligned, PAGE_BYTES) == LAST_MIB


@claim("K06")
def test_a_range_that_a_device_reserves_cannot_be_allowed(attached, ioas, interrupt_window):
    """Allowing addresses that an attached device reserves fails with EADDRINUSE."""
    with refused(EADDRINUSE):
        attached.iommufd.ioas_allow_iovas(ioas, [(interrupt_window[0], interrupt_window[-1])])
    attached.iommufd.ioas_allow_iovas(ioas, [(0, interrupt_window[0] - 1)])
    attached.iommufd.ioas_allow_iovas(ioas, [])


@claim("K07")
@pytest.mark.parametrize("user", ["unprivileged"], indirect=True)
def test_the_charge_for_a_memory_file_moves_to_another_process(guest, user, attached, ioas):
    """CHANGE_PROCESS moves what memory files pin to the process that calls it."""
    attached.iommufd.ioas_map_file(ioas, memfd(user, SIZE), 0, SIZE, IOVA)
    heir = guest.user("heir", drop=[CAP_IPC_LOCK])
    inherited = attached.iommufd.passed_to(heir)
    inherited.change_process()
    assert (pinned_bytes(user), pinned_bytes(heir)) == (0, SIZE)
    inherited.ioas_unmap(ioas, IOVA, SIZE)
    assert pinned_bytes(heir) == 0


@claim("K30")
def test_the_pinned_memory_of_a_privileged_process_is_lost_count_of(guest, user, attached, ioas):
    """CHANGE_PROCESS moves no count of memory that was mapped with CAP_IPC_LOCK."""
    attached.iommufd.ioas_map_file(ioas, memfd(user, SIZE), 0, SIZE, IOVA)
    heir = guest.user("heir")
    inherited = attached.iommufd.passed_to(heir)
    inherited.change_process()
    assert (pinned_bytes(user), pinned_bytes(heir)) == (SIZE, 0)
    inherited.ioas_unmap(ioas, IOVA, SIZE)
    assert (pinned_bytes(user), pinned_bytes(heir)) == (SIZE, (1 << 64) * 1024 - SIZE)


@claim("K08")
def test_the_charge_for_other_memory_stays(user, attached, ioas):
    """CHANGE_PROCESS fails with EINVAL while memory is mapped that is not a file's."""
    iommufd = attached.iommufd
    iommufd.ioas_map_file(ioas, memfd(user, SIZE), 0, SIZE, IOVA)
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, OTHER)
    with refused(EINVAL):
        iommufd.change_process()
    with refused(EOPNOTSUPP):
        iommufd.change_process(reserved=1)
    iommufd.ioas_unmap(ioas, OTHER, SIZE)
    iommufd.change_process()
    assert pinned_bytes(user) == SIZE


@claim("K09")
def test_a_memory_file_is_what_the_device_reads(user, ioas_copier, ioas):
    """A device reads from a memory file what its user wrote to the file after it was mapped."""
    fd, iommufd = memfd(user, PAGE_BYTES), ioas_copier.device.iommufd
    iommufd.ioas_unmap(ioas, SOURCE, PAGE_BYTES)
    iommufd.ioas_map_file(ioas, fd, 0, PAGE_BYTES, SOURCE)
    user.pwrite(fd, MESSAGE, 0)
    assert ioas_copier.copy(MESSAGE[::-1]) == MESSAGE


@claim("K10")
def test_a_memory_file_is_not_mapped_beyond_its_end(user, attached, ioas):
    """Mapping a memory file beyond its end fails with EINVAL and maps nothing."""
    fd, iommufd = memfd(user, SIZE), attached.iommufd
    with refused(EINVAL):
        iommufd.ioas_map_file(ioas, fd, PAGE_BYTES, SIZE, IOVA)
    assert iommufd.ioas_map_file(ioas, fd, PAGE_BYTES, SIZE - PAGE_BYTES, IOVA) == IOVA


@claim("K11")
def test_huge_pages_are_an_option_until_something_is_mapped(user, attached, ioas):
    """HUGE_PAGES of an IOAS is 1 at first, and can be set to 0 while nothing is mapped."""
    iommufd, option = attached.iommufd, IOMMU_OPTION_HUGE_PAGES
    assert iommufd.option(option, IOMMU_OPTION_OP_GET, ioas) == 1
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA)
    with refused(EINVAL):
        iommufd.option(option, IOMMU_OPTION_OP_SET, ioas, 0)
    iommufd.ioas_unmap(ioas, IOVA, SIZE)
    iommufd.option(option, IOMMU_OPTION_OP_SET, ioas, 0)
    assert iommufd.option(option, IOMMU_OPTION_OP_GET, ioas) == 0


@claim("K12")
def test_the_mode_of_accounting_is_set_before_anything_else(bound_device, ioas):
    """RLIMIT_MODE cannot be set once an iommufd has objects: EBUSY."""
    iommufd, option = bound_device.iommufd, IOMMU_OPTION_RLIMIT_MODE
    with refused(EBUSY):
        iommufd.option(option, IOMMU_OPTION_OP_SET, value=1)
    iommufd.destroy(ioas)
    assert iommufd.option(option, IOMMU_OPTION_OP_GET) == 0


@claim("K28")
@pytest.mark.topology(TWO_CPUS)
@pytest.mark.parametrize("user", ["unprivileged"], indirect=True)
def test_charges_move_while_memory_files_come_and_go(guest, user, attached, ioas, rounds):
    """CHANGE_PROCESS and the mapping of memory files by two processes at once both end."""
    iommufd, fd = attached.iommufd, memfd(user, SIZE)
    heir = guest.user("heir", drop=[CAP_IPC_LOCK])
    inherited = iommufd.passed_to(heir)
    repeat(
        rounds,
        lambda: at_once(partial(iommufd.ioas_map_file, ioas, fd, 0, SIZE, IOVA), inherited),
        lambda: iommufd.ioas_unmap(ioas, IOVA, SIZE),
    )
    assert (pinned_bytes(user), pinned_bytes(heir)) == (0, 0)
