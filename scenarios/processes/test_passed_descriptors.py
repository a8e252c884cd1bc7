"""What can be done with a descriptor that was passed through a socket, and who pays for it?

Kernel: net/core/scm.c; drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_map() and vfio_lock_acct();
drivers/iommu/iommufd/pages.c, iopt_alloc_user_pages().
"""

from errno import EACCES, EBUSY, ENOMEM

import pytest

from vfio_lab.client.eventfd import Eventfd
from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.client.passing import pass_descriptor
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX as BAR
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, limit_locked_memory, locked_bytes
from vfio_lab_pytest.verdicts import refused

UID = 1000
EVERY_CAPABILITY = range(41)
SIZE = 4 * PAGE_BYTES


@pytest.fixture
def receiver(guest):
    """An unprivileged user of another uid, who cannot open the device's nodes."""
    return guest.user("receiver", uid=UID, drop=EVERY_CAPABILITY)


@claim("N08")
def test_a_passed_device_is_used_by_who_could_not_open_it(receiver, device, function):
    """A device that was passed to an unprivileged user works for them, who cannot open it."""
    with refused(EACCES):
        receiver.open_group(function)
    passed = device.passed_to(receiver)
    assert passed.read_config(0, 2) == b"\x86\x80"
    passed.reset()
    assert receiver.touch(passed.mmap_region(BAR, PAGE_BYTES)) is None


@claim("N09")
def test_a_passed_device_stays_open(user, receiver, observer, device, function):
    """A device that was passed stays open after the death of who opened it."""
    passed = device.passed_to(receiver)
    user.kill()
    assert passed.get_info().num_regions > 0
    with refused(EBUSY):
        observer.open(function)
    passed.close()
    assert observer.open(function).get_info().num_regions > 0


@claim("N10")
def test_who_maps_memory_through_a_passed_container_pays(user, receiver, mappings):
    """Memory that a receiver maps through a passed container is charged to the receiver."""
    limit_locked_memory(receiver, SIZE)
    passed = mappings.passed_to(receiver)
    memory = receiver.allocate(2 * SIZE)
    with refused(ENOMEM):
        passed.map_dma(memory, IOVA, 2 * SIZE)
    passed.map_dma(memory, IOVA, SIZE)
    assert (locked_bytes(user), locked_bytes(receiver)) == (0, SIZE)
    assert mappings.unmap_dma(IOVA, SIZE) == SIZE
    assert locked_bytes(receiver) == 0


@claim("N11")
def test_who_maps_memory_through_a_passed_iommufd_pays(user, receiver, attached, ioas):
    """Memory that a receiver maps through a passed iommufd is charged to the receiver."""
    limit_locked_memory(receiver, SIZE)
    passed, memory = attached.iommufd.passed_to(receiver), receiver.allocate(2 * SIZE)
    with refused(ENOMEM):
        passed.ioas_map(ioas, memory, 2 * SIZE, IOVA)
    passed.ioas_map(ioas, memory, SIZE, IOVA)
    assert (pinned_bytes(user), pinned_bytes(receiver)) == (0, SIZE)
    assert attached.iommufd.ioas_unmap(ioas, IOVA, SIZE) == SIZE
    assert pinned_bytes(receiver) == 0


@claim("N12")
@pytest.mark.usefixtures("mastering")
def test_an_interrupt_reaches_an_eventfd_of_another_process(user, receiver, device, registers):
    """An interrupt signals an eventfd that another process made and passed on."""
    theirs = Eventfd(receiver)
    device.set_irq_eventfds(MSIX, [pass_descriptor(receiver, theirs.fd, user)])
    registers.interrupt_vector(0)
    assert theirs.wait() == 1
    theirs.close()
    registers.interrupt_vector(0)
    assert device.get_info().num_regions > 0


@claim("N13")
def test_a_passed_group_gives_its_devices(user, receiver, device, function):
    """A receiver of a group gets its devices, although the group's node is not theirs."""
    passed = device.group.passed_to(receiver)
    device.close()
    user.kill()
    with refused(EACCES):
        receiver.open_group(function)
    assert passed.get_status().flags & 1
