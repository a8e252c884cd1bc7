"""How does a driver without an IOMMU use the memory of its user?

The device is the lab's own `pages`: of the kernel's drivers only vfio-ccw, vfio-ap and i915 pin.
Kernel: drivers/vfio/vfio_main.c, vfio_pin_pages() and vfio_dma_rw(); drivers/vfio/
vfio_iommu_type1.c, vfio_iommu_type1_pin_pages(), vfio_notify_dma_unmap() and
vfio_iommu_type1_dma_rw().
"""

from errno import EFAULT, EINVAL, ENOMEM, EPERM

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.pages import IOMMU_READ, Pages, PagesState
from vfio_lab.uapi.vfio_type1 import (
    VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, dirty_bits, limit_locked_memory, locked_bytes
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.mediated import pages_device
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.usefixtures("mocks")
SIZE = 4 * PAGE_BYTES
SECOND, THIRD = IOVA + SIZE, IOVA + 2 * SIZE
MESSAGE = b"message!"
ACROSS = IOVA + PAGE_BYTES - len(MESSAGE) // 2
UNPINS = "vfio_unpin_pages"  # under the lock of the container's list of devices


@pytest.fixture
def container(pages):
    """The container of the open device; no IOMMU is behind it."""
    return pages.device.container


@pytest.fixture
def memory(user, container):
    """Four pages of the user, mapped at IOVA."""
    memory = user.allocate(SIZE)
    container.map_dma(memory, IOVA, SIZE)
    return memory


@claim("S50")
@pytest.mark.usefixtures("memory")
def test_pinned_pages_are_charged_once(user, pages):
    """A page is charged when it is pinned first, and released when it was unpinned as often."""
    pages.pin(IOVA, 2)
    pages.pin(IOVA)
    assert locked_bytes(user) == 2 * PAGE_BYTES
    pages.unpin(IOVA, 2)
    assert locked_bytes(user) == PAGE_BYTES
    pages.unpin(IOVA)
    assert locked_bytes(user) == 0


@claim("S51")
def test_pages_that_a_driver_may_not_use_are_not_pinned(user, pages, container):
    """Pages that are not mapped, or not for writing, are not pinned, nor those before them."""
    container.map_dma(user.allocate(PAGE_BYTES), IOVA, PAGE_BYTES, VFIO_DMA_MAP_FLAG_READ)
    container.map_dma(user.allocate(PAGE_BYTES), IOVA + PAGE_BYTES, PAGE_BYTES)
    with refused(EPERM):
        pages.pin(IOVA)
    with refused(EINVAL):
        pages.pin(IOVA + PAGE_BYTES, 2)
    assert locked_bytes(user) == 0
    pages.pin(IOVA, access=IOMMU_READ)
    pages.pin(IOVA + PAGE_BYTES)
    assert locked_bytes(user) == 2 * PAGE_BYTES


@claim("S52")
def test_pages_beyond_the_limit_are_not_pinned(guest, poor):
    """No more pages are pinned than their user may lock: ENOMEM, and none of them is."""
    pages = Pages(poor.open(pages_device(guest)))
    pages.device.container.map_dma(poor.allocate(SIZE), IOVA, SIZE)
    with refused(ENOMEM):
        pages.pin(IOVA, 3)
    assert locked_bytes(poor) == 0
    limit_locked_memory(poor, SIZE)
    pages.pin(IOVA, 3)
    assert locked_bytes(poor) == 3 * PAGE_BYTES


@claim("S53")
@pytest.mark.usefixtures("memory")
def test_an_unmap_asks_for_pinned_pages(user, pages, container):
    """The driver is asked for the pages of a mapping that is unmapped, if any is pinned."""
    container.map_dma(user.allocate(SIZE), SECOND, SIZE)
    pages.pin(IOVA, 2)
    assert container.unmap_dma(SECOND, SIZE) == SIZE
    assert pages.state().asked == 0
    assert container.unmap_dma(IOVA, SIZE) == SIZE
    assert pages.state() == PagesState(pins=0, asked=1, iova=IOVA, length=SIZE)
    assert locked_bytes(user) == 0


@claim("S54")
@pytest.mark.usefixtures("memory")
def test_pinned_pages_are_dirty(pages, container):
    """A pinned page is dirty in each bitmap, and in the first one after it was unpinned."""
    container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START)
    pages.pin(IOVA + PAGE_BYTES)
    assert (dirty_bits(container, SIZE), dirty_bits(container, SIZE)) == (0b0010, 0b0010)
    pages.unpin(IOVA + PAGE_BYTES)
    assert (dirty_bits(container, SIZE), dirty_bits(container, SIZE)) == (0b0010, 0)


@claim("S55")
def test_a_driver_reads_and_writes_what_is_mapped(user, pages, container):
    """A driver reads and writes across two mappings, and nothing that is not mapped."""
    memory = user.allocate(2 * PAGE_BYTES)
    container.map_dma(memory, IOVA, PAGE_BYTES)
    container.map_dma(memory + PAGE_BYTES, IOVA + PAGE_BYTES, PAGE_BYTES)
    pages.write(ACROSS, MESSAGE)
    assert user.peek(memory + ACROSS - IOVA, len(MESSAGE)) == MESSAGE
    assert pages.read(ACROSS, len(MESSAGE)) == MESSAGE
    with refused(EINVAL):
        pages.read(ACROSS + PAGE_BYTES, len(MESSAGE))


@claim("S56")
def test_a_driver_keeps_to_the_accesses_of_a_mapping(user, pages, container):
    """A driver cannot write what is mapped for reading, nor use what is mapped for writing."""
    container.map_dma(user.allocate(SIZE), IOVA, SIZE, VFIO_DMA_MAP_FLAG_READ)
    container.map_dma(user.allocate(SIZE), SECOND, SIZE, VFIO_DMA_MAP_FLAG_WRITE)
    assert pages.read(IOVA, len(MESSAGE)) == bytes(len(MESSAGE))
    with refused(EPERM):
        pages.write(IOVA, MESSAGE)
    with refused(EPERM):
        pages.read(SECOND, len(MESSAGE))
    with refused(EPERM):
        pages.write(SECOND, MESSAGE)


@claim("S57")
@pytest.mark.usefixtures("memory")
def test_written_pages_are_dirty_once(pages, container):
    """Pages that a driver writes are dirty in the next bitmap; those that it reads are not."""
    container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START)
    pages.read(IOVA, SIZE)
    assert dirty_bits(container, SIZE) == 0
    pages.write(ACROSS, MESSAGE)
    assert (dirty_bits(container, SIZE), dirty_bits(container, SIZE)) == (0b0011, 0)


@claim("S58")
@pytest.mark.usefixtures("memory")
def test_a_driver_reads_for_the_process_that_mapped(user, pages):
    """A driver that is called by another process does not read the memory of either: EFAULT."""
    child = Pages(pages.device.inherited_by(user.fork()))
    with refused(EFAULT):
        child.read(IOVA, len(MESSAGE))
    assert pages.read(IOVA, len(MESSAGE)) == bytes(len(MESSAGE))


@claim("S59")
@pytest.mark.usefixtures("memory")
def test_pages_are_charged_once_for_driver_and_iommu(user, pages, container, function):
    """A page that a driver and an IOMMU pin is charged once, until both let go of it."""
    group = user.open_group(function)
    pages.pin(IOVA)
    group.set_container(container)
    pages.pin(IOVA + PAGE_BYTES)
    assert locked_bytes(user) == SIZE
    group.unset_container()
    assert locked_bytes(user) == 2 * PAGE_BYTES
    pages.unpin(IOVA + PAGE_BYTES)
    assert locked_bytes(user) == PAGE_BYTES


@claim("S60")
@pytest.mark.topology(TWO_CPUS)
@pytest.mark.usefixtures("memory")
def test_two_unmaps_of_pinned_pages_deadlock(guest, user, pages, container, second_user):
    """Two unmaps that ask drivers for pages at one time wait for each other for ever."""
    theirs = container.passed_to(second_user)
    container.map_dma(user.allocate(SIZE), SECOND, SIZE)
    container.map_dma(user.allocate(SIZE), THIRD, SIZE)
    pages.pin(IOVA)
    pages.pin(SECOND)
    with guest.held(user, UNPINS) as held:
        first = container.start_unmap_dma(IOVA, SIZE)
        held.wait()
        assert theirs.unmap_dma(THIRD, SIZE) == SIZE
        second = theirs.start_unmap_dma(SECOND, SIZE)
        assert guest.is_blocked(second)
    assert guest.deadlocked(first, second) == ["second_user", "user"]
