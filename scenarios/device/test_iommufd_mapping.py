"""What does an IOAS map, and for which devices?

Kernel: drivers/iommu/iommufd/ioas.c, io_pagetable.c and device.c; drivers/vfio/iommufd.c.
"""

import functools
from errno import EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, EOVERFLOW

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import (
    SOURCE,
    TARGET,
    UNTOUCHED,
    Loopback,
)
from vfio_lab.uapi.vfio import VFIO_TYPE1v2_IOMMU
from vfio_lab.vfio import Container, Group
from vfio_lab.vfio.iommufd import IOMMU_PATH
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import start_copier
from vfio_lab_pytest.iommus import on_every_iommufd_iommu
from vfio_lab_pytest.verdicts import all_refused, refused

IOVA = 0x40_0000
SIZE = 4 * PAGE_BYTES
END = 1 << 48  # of the addresses that the guest's IOMMU translates
LAST_PAGE = (1 << 64) - PAGE_BYTES
EVERYTHING = (1 << 64) - 1
MESSAGE = bytes(range(64))
NOTHING = UNTOUCHED * len(MESSAGE)
PAGE = {"iova": IOVA, "length": PAGE_BYTES}
MALFORMED = {
    "nothing": {**PAGE, "length": 0},
    "off a page": {**PAGE, "iova": IOVA + 1},
    "half a page": {**PAGE, "length": PAGE_BYTES // 2},
    "no access": {**PAGE, "flags": 0},
    "beyond the end": {**PAGE, "iova": END},
}
OVERLAPPING = {
    "the same": {"iova": IOVA, "length": SIZE},
    "its last page": {**PAGE, "iova": IOVA + SIZE - PAGE_BYTES},
    "across its start": {"iova": IOVA - PAGE_BYTES, "length": 2 * PAGE_BYTES},
    "around it": {"iova": IOVA - PAGE_BYTES, "length": SIZE + 2 * PAGE_BYTES},
}


@pytest.fixture
def compat_copier(user, function):
    """A loopback device, opened by a group whose container is an iommufd."""
    group, container = Group(user, function.group), Container(user, IOMMU_PATH)
    group.set_container(container)
    container.set_iommu(VFIO_TYPE1v2_IOMMU)
    loopback = Loopback(group.get_device_fd(str(function)))
    pages = (loopback.rings, loopback.source, loopback.target)
    _ = [container.map_dma(each.address, each.iova, PAGE_BYTES) for each in pages]
    loopback.start()
    return loopback


@claim("F102")
@on_every_iommufd_iommu
def test_a_device_reads_what_an_iommufd_as_container_maps(compat_copier):
    """A device of a group whose container is an iommufd reads what is mapped there."""
    assert compat_copier.copy(MESSAGE) == MESSAGE
    compat_copier.device.container.unmap_dma(SOURCE, PAGE_BYTES)
    assert compat_copier.copy(MESSAGE[::-1]) != MESSAGE[::-1]


@claim("F77")
def test_an_attached_device_limits_the_ranges_of_an_ioas(bound_device, ioas, interrupt_window):
    """An IOAS allows all addresses until the ranges of an attached device limit it."""
    iommufd = bound_device.iommufd
    assert iommufd.ioas_iova_ranges(ioas) == [(0, EVERYTHING)]
    bound_device.attach_iommufd_pt(ioas)
    assert iommufd.ioas_iova_ranges(ioas) == [
        (0, interrupt_window.start - 1),
        (interrupt_window.stop, END - 1),
    ]
    bound_device.detach_iommufd_pt()
    assert iommufd.ioas_iova_ranges(ioas) == [(0, EVERYTHING)]


def in_the_window(start: int) -> dict[str, dict[str, int]]:
    """Return mappings that reach into the addresses of interrupt messages."""
    return {
        "in the window": {**PAGE, "iova": start},
        "into it": {"iova": start - PAGE_BYTES, "length": 2 * PAGE_BYTES},
    }


@claim("F77")
def test_an_ioas_refuses_malformed_mappings(user, attached, ioas, interrupt_window):
    """An IOAS refuses malformed, overlapping and wrapping mappings and maps none of them."""
    map_it = functools.partial(attached.iommufd.ioas_map, ioas, user.allocate(2 * SIZE))
    all_refused(EINVAL, map_it, MALFORMED | in_the_window(interrupt_window.start))
    with refused(EOVERFLOW):
        map_it(iova=LAST_PAGE, length=2 * PAGE_BYTES)
    with refused(EFAULT):
        attached.iommufd.ioas_map(ioas, PAGE_BYTES, PAGE_BYTES, IOVA)
    assert map_it(iova=IOVA, length=SIZE) == IOVA
    all_refused(EEXIST, map_it, OVERLAPPING)
    assert attached.iommufd.ioas_unmap(ioas, 0, EVERYTHING) == SIZE


@claim("F77")
def test_an_ioas_unmaps_whole_mappings_only(user, attached, ioas):
    """An IOAS unmaps whole mappings only; part of a mapping or none fails with ENOENT."""
    iommufd, memory = attached.iommufd, user.allocate(SIZE)
    iommufd.ioas_map(ioas, memory, SIZE, IOVA)
    parts = {
        "its start": lambda: iommufd.ioas_unmap(ioas, IOVA, PAGE_BYTES),
        "its end": lambda: iommufd.ioas_unmap(ioas, IOVA + PAGE_BYTES, SIZE - PAGE_BYTES),
        "nothing": lambda: iommufd.ioas_unmap(ioas, IOVA + SIZE, PAGE_BYTES),
    }
    all_refused(ENOENT, parts)
    assert iommufd.ioas_unmap(ioas, IOVA, SIZE) == SIZE
    assert iommufd.ioas_unmap(ioas, 0, EVERYTHING) == 0


@claim("F77")
def test_an_ioas_chooses_an_address_for_a_mapping_without_one(user, attached, ioas):
    """An IOAS chooses a free address for a mapping that does not ask for one."""
    iommufd, memory = attached.iommufd, user.allocate(SIZE)
    first = iommufd.ioas_map(ioas, memory, SIZE)
    second = iommufd.ioas_map(ioas, memory, SIZE)
    assert abs(second - first) >= SIZE
    with refused(EEXIST):
        iommufd.ioas_map(ioas, memory, PAGE_BYTES, first)
    assert iommufd.ioas_unmap(ioas, first, SIZE) == SIZE


@claim("F78")
@on_every_iommufd_iommu
def test_a_device_reaches_only_the_ioas_that_it_is_attached_to(ioas_copier, ioas):
    """A device reaches only what is mapped in the IOAS to which it is attached."""
    device = ioas_copier.device
    assert ioas_copier.copy(MESSAGE) == MESSAGE
    device.iommufd.ioas_unmap(ioas, TARGET, PAGE_BYTES)
    assert ioas_copier.copy(MESSAGE) == NOTHING
    device.iommufd.ioas_map(ioas, ioas_copier.target.address, PAGE_BYTES, TARGET)
    assert ioas_copier.copy(MESSAGE) == MESSAGE
    device.attach_iommufd_pt(device.iommufd.ioas_alloc())
    assert ioas_copier.copy(MESSAGE) == NOTHING


@claim("F78")
@on_every_iommufd_iommu
def test_a_detached_device_reaches_nothing(ioas_copier, ioas):
    """A detached device reaches nothing until it is attached again."""
    device = ioas_copier.device
    assert ioas_copier.copy(MESSAGE) == MESSAGE
    device.detach_iommufd_pt()
    assert ioas_copier.copy(MESSAGE) == NOTHING
    device.detach_iommufd_pt()
    device.attach_iommufd_pt(ioas)
    device.reset()
    ioas_copier.start()
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("K32")
@pytest.mark.topology("scalable")
def test_a_device_behind_first_stage_tables_reaches_what_an_iommufd_maps(bound_device, ioas):
    """A device behind first-stage tables is attached to an IOAS, and reaches what it maps."""
    bound_device.attach_iommufd_pt(ioas)
    copier = start_copier(bound_device, ioas)
    assert copier.copy(MESSAGE) == MESSAGE
    bound_device.iommufd.ioas_unmap(ioas, TARGET, PAGE_BYTES)
    assert copier.copy(MESSAGE) == NOTHING


@claim("F78")
def test_an_ioas_in_use_is_not_destroyed(attached, ioas):
    """An IOAS with an attached device cannot be destroyed."""
    iommufd, spare = attached.iommufd, attached.iommufd.ioas_alloc()
    with refused(EBUSY):
        iommufd.destroy(ioas)
    iommufd.destroy(spare)
    with refused(ENOENT):
        attached.attach_iommufd_pt(spare)
    with refused(EINVAL):
        attached.attach_iommufd_pt(attached.devid)
    attached.detach_iommufd_pt()
    iommufd.destroy(ioas)
