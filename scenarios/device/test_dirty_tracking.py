"""What does a container report about dirty pages?

Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_dirty_pages() and update_user_bitmap().
"""

from errno import EACCES, EINVAL, EOVERFLOW

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.vfio import VFIO_TYPE1_IOMMU
from vfio_lab.uapi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP as GET_BITMAP
from vfio_lab.uapi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES_FLAG_START as START
from vfio_lab.uapi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP as STOP
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA
from vfio_lab_pytest.verdicts import all_refused, refused

SIZE = 4 * PAGE_BYTES
LAST_PAGE = (1 << 64) - PAGE_BYTES
RANGE = {"iova": IOVA, "size": SIZE, "pgsize": PAGE_BYTES}
MALFORMED = {
    "of other pages": {**RANGE, "pgsize": 2 * PAGE_BYTES},
    "off a page": {**RANGE, "iova": IOVA + 1},
    "of half a page": {**RANGE, "size": SIZE - PAGE_BYTES // 2},
    "without its first page": {**RANGE, "iova": IOVA + PAGE_BYTES, "size": 3 * PAGE_BYTES},
    "without its last page": {**RANGE, "size": 3 * PAGE_BYTES},
    "of nothing": {**RANGE, "size": 0},
    "without room": {**RANGE, "room": 0},
    "with too little room": {**RANGE, "size": 65 * PAGE_BYTES, "room": 8},
}
FLAGS = {
    "unknown": {"flags": 1 << 3},
    "two": {"flags": START | STOP},
    "a bitmap without a range": {"flags": GET_BITMAP},
}


def bits(bitmap):
    """Return a bitmap as a number."""
    return int.from_bytes(bitmap, "little")


@claim("F47")
def test_dirty_pages_are_read_only_between_start_and_stop(container, memory):
    """Reading a dirty bitmap fails before dirty tracking is started and after it is stopped."""
    container.map_dma(memory, IOVA, SIZE)
    with refused(EINVAL):
        container.dirty_bitmap(**RANGE)
    container.dirty_pages(START)
    container.dirty_pages(START)
    assert bits(container.dirty_bitmap(**RANGE)) == 0b1111
    container.dirty_pages(STOP)
    container.dirty_pages(STOP)
    with refused(EINVAL):
        container.dirty_bitmap(**RANGE)


@claim("F47")
def test_every_mapped_page_is_dirty_every_time(container, memory):
    """Every read of a dirty bitmap reports all mapped pages as dirty."""
    container.dirty_pages(START)
    container.map_dma(memory, IOVA, PAGE_BYTES)
    container.map_dma(memory, IOVA + 64 * PAGE_BYTES, 2 * PAGE_BYTES)
    expected = 0b1 | 0b11 << 64
    assert bits(container.dirty_bitmap(IOVA, 128 * PAGE_BYTES, PAGE_BYTES)) == expected
    assert bits(container.dirty_bitmap(IOVA, 128 * PAGE_BYTES, PAGE_BYTES)) == expected


@claim("F98")
def test_a_second_bitmap_reports_pages_that_are_not_mapped(container, memory):
    """A second dirty bitmap also reports pages that are not mapped but near a mapping."""
    container.dirty_pages(START)
    container.map_dma(memory, IOVA, PAGE_BYTES)
    container.map_dma(memory, IOVA + 2 * PAGE_BYTES, 2 * PAGE_BYTES)
    assert bits(container.dirty_bitmap(IOVA, SIZE, PAGE_BYTES)) == 0b1101
    assert bits(container.dirty_bitmap(IOVA, SIZE, PAGE_BYTES)) == 0b111101


@claim("F47")
def test_an_unmap_returns_a_dirty_bitmap(container, memory):
    """An unmap returns a dirty bitmap while dirty tracking is on, and fails otherwise."""
    container.map_dma(memory, IOVA, SIZE)
    with refused(EINVAL):
        container.unmap_dma_dirty(**RANGE)
    container.dirty_pages(START)
    with refused(EINVAL):
        container.unmap_dma_dirty(IOVA, SIZE, 2 * PAGE_BYTES)
    size, bitmap = container.unmap_dma_dirty(**RANGE)
    assert (size, bits(bitmap)) == (SIZE, 0b1111)
    assert container.unmap_dma(IOVA, SIZE) == 0


@claim("F47")
def test_a_malformed_request_for_dirty_pages_is_invalid(container, memory):
    """A malformed request for dirty pages fails with EINVAL."""
    container.map_dma(memory, IOVA, SIZE)
    container.dirty_pages(START)
    all_refused(EINVAL, container.dirty_bitmap, MALFORMED)
    all_refused(EINVAL, container.dirty_pages, FLAGS)
    with refused(EINVAL):
        container.dirty_pages(STOP, argsz=7)
    assert bits(container.dirty_bitmap(**RANGE)) == 0b1111


@claim("F85")
def test_a_request_for_dirty_pages_that_wraps_overflows(container):
    """A request for dirty pages past the end of the address space fails with EOVERFLOW."""
    container.dirty_pages(START)
    with refused(EOVERFLOW):
        container.dirty_bitmap(LAST_PAGE, 2 * PAGE_BYTES, PAGE_BYTES)
    assert bits(container.dirty_bitmap(LAST_PAGE, PAGE_BYTES, PAGE_BYTES)) == 0


@claim("F47")
def test_type1_version_1_tracks_no_dirty_pages(pf_group, container):
    """A container of type1, version 1, refuses dirty tracking with EACCES."""
    container.dirty_pages(START)
    pf_group.unset_container()
    pf_group.set_container(container)
    container.set_iommu(VFIO_TYPE1_IOMMU)
    with refused(EACCES):
        container.dirty_pages(START)
    with refused(EACCES):
        container.dirty_bitmap(**RANGE)
