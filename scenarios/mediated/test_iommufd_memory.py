"""How does a driver without an IOMMU use the memory of an address space of iommufd?

The device is the lab's own `pages`. Kernel: drivers/iommu/iommufd/device.c,
iommufd_access_pin_pages(), iommufd_access_rw() and iommufd_access_notify_unmap().
"""

from errno import ENOENT, EPERM

import pytest

from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.drivers.pages import IOMMU_READ, Pages, PagesState
from vfio_lab.uapi.iommufd import IOMMU_IOAS_MAP_READABLE
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA
from vfio_lab_pytest.mediated import pages_device
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.usefixtures("mocks")
SIZE = 4 * PAGE_BYTES
SECOND = IOVA + SIZE
MESSAGE = b"message!"
ACROSS = IOVA + PAGE_BYTES - len(MESSAGE) // 2
EVERYTHING = (1 << 64) - 1


@pytest.fixture
def pages(guest, user):
    """An open `pages`, attached to no address space."""
    return Pages(user.open(pages_device(guest), access="cdev"))


@pytest.fixture
def iommufd(pages):
    """The iommufd of the open device."""
    return pages.device.iommufd


@pytest.fixture
def ioas(pages, iommufd):
    """The address space that the device is attached to."""
    ioas = iommufd.ioas_alloc()
    pages.device.attach_iommufd_pt(ioas)
    return ioas


@claim("S61")
def test_pages_of_an_ioas_are_pinned(user, pages, iommufd, ioas):
    """Pages of an IOAS are pinned if they are mapped, and for writing only if mapped so."""
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA, IOMMU_IOAS_MAP_READABLE)
    with refused(EPERM):
        pages.pin(IOVA)
    with refused(ENOENT):
        pages.pin(SECOND - PAGE_BYTES, 2, IOMMU_READ)
    assert pinned_bytes(user) == 0
    pages.pin(IOVA, 2, IOMMU_READ)
    assert pinned_bytes(user) == 2 * PAGE_BYTES
    pages.unpin(IOVA, 2)
    assert pinned_bytes(user) == 0


@claim("S62")
def test_an_unmap_of_an_ioas_asks_for_pinned_pages(user, pages, iommufd, ioas):
    """The driver is asked for the pages of a range of an IOAS that is unmapped."""
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA)
    pages.pin(IOVA + PAGE_BYTES)
    assert iommufd.ioas_unmap(ioas, IOVA, SIZE) == SIZE
    assert pages.state() == PagesState(pins=0, asked=1, iova=IOVA, length=SIZE)
    assert pinned_bytes(user) == 0


@claim("S63")
def test_a_driver_reads_and_writes_an_ioas(user, pages, iommufd, ioas):
    """A driver reads and writes across mappings of an IOAS, and nothing that is not mapped."""
    memory = user.allocate(2 * PAGE_BYTES)
    iommufd.ioas_map(ioas, memory, PAGE_BYTES, IOVA)
    iommufd.ioas_map(ioas, memory + PAGE_BYTES, PAGE_BYTES, IOVA + PAGE_BYTES)
    pages.write(ACROSS, MESSAGE)
    assert user.peek(memory + ACROSS - IOVA, len(MESSAGE)) == MESSAGE
    assert pages.read(ACROSS, len(MESSAGE)) == MESSAGE
    with refused(ENOENT):
        pages.read(ACROSS + PAGE_BYTES, len(MESSAGE))


@claim("S64")
def test_a_driver_reads_an_ioas_for_any_process(user, pages, iommufd, ioas):
    """A driver that is called by another process reads the memory of the one that mapped."""
    memory = user.allocate(SIZE)
    iommufd.ioas_map(ioas, memory, SIZE, IOVA)
    child = user.fork()
    user.poke(memory, MESSAGE)
    assert Pages(pages.device.inherited_by(child)).read(IOVA, len(MESSAGE)) == MESSAGE
    assert child.peek(memory, len(MESSAGE)) == bytes(len(MESSAGE))


@claim("S65")
def test_a_device_that_moves_gives_all_pages_back(user, pages, iommufd, ioas):
    """A driver is asked for all its pages when its device is attached to another IOAS."""
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA)
    pages.pin(IOVA)
    pages.device.attach_iommufd_pt(iommufd.ioas_alloc())
    assert pages.state() == PagesState(pins=0, asked=1, iova=0, length=EVERYTHING)
    assert pinned_bytes(user) == 0


@claim("S66")
def test_a_device_without_an_ioas_reaches_nothing(user, pages, iommufd):
    """A driver whose device is attached to no IOAS neither pins nor reads: ENOENT."""
    with refused(ENOENT):
        pages.pin(IOVA)
    with refused(ENOENT):
        pages.read(IOVA, len(MESSAGE))
    ioas = iommufd.ioas_alloc()
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA)
    pages.device.attach_iommufd_pt(ioas)
    pages.pin(IOVA)
