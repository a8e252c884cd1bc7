"""What is a container like that holds a mediated device and a PCI function?

Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_attach_group(), vfio_iommu_replay(),
vfio_iommu_unmap_unpin_reaccount() and vfio_iommu_populate_bitmap_full().
"""

from errno import EBUSY, EFAULT, EINVAL, ENOMEM, ERANGE

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import Loopback
from vfio_lab.uapi.vfio import VFIO_UPDATE_VADDR
from vfio_lab.uapi.vfio_type1 import (
    VFIO_DMA_UNMAP_FLAG_VADDR,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, dirty_bits, limit_locked_memory, locked_bytes
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.usefixtures("mocks")
SIZE = 4 * PAGE_BYTES
MESSAGE = bytes(range(64))
NOT_AN_ADDRESS = 1 << 60


@pytest.fixture
def container(serial_device):
    """The container of an open mediated device; no IOMMU is behind it."""
    return serial_device.container


@pytest.fixture
def group(user, function):
    """The group of a PCI function, in no container."""
    return user.open_group(function)


@claim("S40")
def test_a_device_that_joins_reaches_what_was_mapped_before(user, container, group, function):
    """A PCI function that joins a container reaches what was mapped before it joined."""
    memory = user.allocate(3 * PAGE_BYTES)
    container.map_dma(memory, IOVA, 3 * PAGE_BYTES)
    group.set_container(container)
    iovas = range(IOVA, IOVA + 3 * PAGE_BYTES, PAGE_BYTES)
    copier = Loopback(group.get_device_fd(str(function)), *iovas, memory=memory)
    copier.start()
    assert copier.copy(MESSAGE) == MESSAGE


@claim("S41")
def test_memory_is_pinned_while_a_device_with_an_iommu_is_there(user, container, group):
    """Mapped memory is pinned when a PCI function joins, no more when it left, and still mapped."""
    container.map_dma(user.allocate(SIZE), IOVA, SIZE)
    assert locked_bytes(user) == 0
    group.set_container(container)
    assert locked_bytes(user) == SIZE
    group.unset_container()
    assert locked_bytes(user) == 0
    group.set_container(container)
    assert locked_bytes(user) == SIZE


@claim("S42")
def test_a_device_does_not_join_without_the_memory(user, container, group):
    """A PCI function does not join where mapped memory is gone: EFAULT, and nothing is pinned."""
    gone = user.allocate(SIZE)
    container.map_dma(user.allocate(SIZE), IOVA, SIZE)
    container.map_dma(gone, IOVA + SIZE, SIZE)
    user.munmap(gone, SIZE)
    with refused(EFAULT):
        group.set_container(container)
    assert locked_bytes(user) == 0
    container.unmap_dma(IOVA + SIZE, SIZE)
    group.set_container(container)
    assert locked_bytes(user) == SIZE


@claim("S43")
def test_a_device_does_not_join_where_its_interrupts_are_mapped(
    user, container, group, interrupt_window
):
    """A PCI function does not join where memory is mapped at the address of its interrupts."""
    container.map_dma(user.allocate(SIZE), interrupt_window[0], SIZE)
    with refused(EINVAL):
        group.set_container(container)
    assert container.unmap_dma(interrupt_window[0], SIZE) == SIZE
    group.set_container(container)


@claim("S44")
def test_a_device_does_not_join_beyond_its_addresses(user, container, group):
    """A PCI function does not join where memory is mapped beyond what its IOMMU translates."""
    container.map_dma(user.allocate(SIZE), IOVA, SIZE)
    container.map_dma(user.allocate(SIZE), NOT_AN_ADDRESS, SIZE)
    with refused(ERANGE):
        group.set_container(container)
    assert locked_bytes(user) == 0
    assert container.unmap_dma(NOT_AN_ADDRESS, SIZE) == SIZE
    group.set_container(container)


@claim("S45")
def test_a_device_does_not_join_beyond_the_limit(poor, serial, function):
    """A PCI function does not join where more is mapped than the user may lock: ENOMEM."""
    container, group = poor.open(serial).container, poor.open_group(function)
    container.map_dma(poor.allocate(SIZE), IOVA, SIZE)
    with refused(ENOMEM):
        group.set_container(container)
    assert locked_bytes(poor) == 0
    limit_locked_memory(poor, SIZE)
    group.set_container(container)
    assert locked_bytes(poor) == SIZE


@claim("S46")
def test_pages_are_dirty_only_for_devices_with_an_iommu(user, container, group):
    """No page is dirty for a mediated device that pins none; all are for a PCI function."""
    container.map_dma(user.allocate(SIZE), IOVA, SIZE)
    container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START)
    assert dirty_bits(container, SIZE) == 0
    group.set_container(container)
    assert (dirty_bits(container, SIZE), dirty_bits(container, SIZE)) == (0b1111, 0b1111)
    group.unset_container()
    assert (dirty_bits(container, SIZE), dirty_bits(container, SIZE)) == (0b1111, 0)


@claim("S47")
def test_memory_of_a_mediated_device_does_not_move(user, container, mappings):
    """A container with a mediated device does not take the user address from a mapping: EBUSY."""
    assert not container.check_extension(VFIO_UPDATE_VADDR)
    container.map_dma(user.allocate(SIZE), IOVA, SIZE)
    with refused(EBUSY):
        container.unmap_dma(IOVA, SIZE, VFIO_DMA_UNMAP_FLAG_VADDR)
    assert mappings.check_extension(VFIO_UPDATE_VADDR)
    mappings.map_dma(user.allocate(SIZE), IOVA, SIZE)
    assert mappings.unmap_dma(IOVA, SIZE, VFIO_DMA_UNMAP_FLAG_VADDR) == SIZE


@claim("S48")
def test_a_device_that_leaves_leaves_no_limit(user, container, group):
    """Addresses that an IOMMU lacks are taken again once its PCI function left."""
    memory = user.allocate(SIZE)
    group.set_container(container)
    with refused(EINVAL):
        container.map_dma(memory, NOT_AN_ADDRESS, SIZE)
    group.unset_container()
    container.map_dma(memory, NOT_AN_ADDRESS, SIZE)
    assert container.unmap_dma(NOT_AN_ADDRESS, SIZE) == SIZE
