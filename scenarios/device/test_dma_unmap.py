"""What does VFIO_IOMMU_UNMAP_DMA remove?

Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_unmap().
"""

from errno import EEXIST, EINVAL, EOVERFLOW

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.vfio import VFIO_TYPE1_IOMMU
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_UNMAP_FLAG_ALL as ALL
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP as BITMAP
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_UNMAP_FLAG_VADDR as VADDR
from vfio_lab.vfio import Container
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, locked_bytes
from vfio_lab_pytest.verdicts import all_refused, refused

SIZE = 4 * PAGE_BYTES
LAST_PAGE = (1 << 64) - PAGE_BYTES
WHOLE = {"iova": IOVA, "size": SIZE}

BISECTING = {
    "the first page": {"iova": IOVA, "size": PAGE_BYTES},
    "the last page": {"iova": IOVA + 3 * PAGE_BYTES, "size": PAGE_BYTES},
    "the middle": {"iova": IOVA + PAGE_BYTES, "size": 2 * PAGE_BYTES},
    "across the start": {"iova": IOVA - PAGE_BYTES, "size": 2 * PAGE_BYTES},
    "across the end": {"iova": IOVA + 3 * PAGE_BYTES, "size": 2 * PAGE_BYTES},
}
MALFORMED = {
    "nothing": {**WHOLE, "size": 0},
    "off a page": {**WHOLE, "iova": IOVA + 1},
    "half a page more": {**WHOLE, "size": SIZE + PAGE_BYTES // 2},
    "an unknown flag": {**WHOLE, "flags": 1 << 3},
    "too short": {**WHOLE, "argsz": 23},
    "all, from an address on": {"iova": IOVA, "size": 0, "flags": ALL},
    "all, of a size": {"iova": 0, "size": SIZE, "flags": ALL},
    "a bitmap of all": {"iova": 0, "size": 0, "flags": ALL | BITMAP, "argsz": 48},
    "a bitmap of addresses": {**WHOLE, "flags": VADDR | BITMAP, "argsz": 48},
    "a bitmap without room": {**WHOLE, "flags": BITMAP},
}


@claim("F45")
def test_an_unmap_splits_no_mapping(pf_user, container, memory):
    """An unmap of part of a mapping fails with EINVAL and removes nothing."""
    container.map_dma(memory, IOVA, SIZE)
    all_refused(EINVAL, container.unmap_dma, BISECTING)
    assert locked_bytes(pf_user) == SIZE
    assert container.unmap_dma(IOVA, SIZE) == SIZE


@claim("F45")
def test_type1_version_1_unmaps_a_mapping_whose_start_is_in_the_range(pf_group, container, memory):
    """type1, version 1, unmaps a whole mapping if the range has its start, and else nothing."""
    pf_group.unset_container()
    pf_group.set_container(container)
    container.set_iommu(VFIO_TYPE1_IOMMU)
    container.map_dma(memory, IOVA, SIZE)
    assert container.unmap_dma(IOVA + PAGE_BYTES, 3 * PAGE_BYTES) == 0
    assert container.unmap_dma(IOVA + SIZE, PAGE_BYTES) == 0
    with refused(EEXIST):
        container.map_dma(memory, IOVA, PAGE_BYTES)
    assert container.unmap_dma(IOVA, PAGE_BYTES) == SIZE
    container.map_dma(memory, IOVA, PAGE_BYTES)


@claim("F45", "F90")
def test_an_unmap_removes_exactly_the_mappings_in_its_range(container, memory):
    """An unmap removes all mappings in its range and returns their size, which may be 0."""
    container.map_dma(memory, IOVA, PAGE_BYTES)
    container.map_dma(memory, IOVA + 2 * PAGE_BYTES, SIZE)
    container.map_dma(memory, IOVA + 8 * PAGE_BYTES, PAGE_BYTES)
    assert container.unmap_dma(IOVA - PAGE_BYTES, 9 * PAGE_BYTES) == PAGE_BYTES + SIZE
    assert container.unmap_dma(IOVA - PAGE_BYTES, 9 * PAGE_BYTES) == 0
    with refused(EEXIST):
        container.map_dma(memory, IOVA + 8 * PAGE_BYTES, PAGE_BYTES)
    container.map_dma(memory, IOVA, 8 * PAGE_BYTES)


@claim("F90")
def test_a_malformed_unmap_is_invalid(pf_user, container, memory):
    """A malformed unmap fails with EINVAL and removes nothing."""
    container.map_dma(memory, IOVA, SIZE)
    all_refused(EINVAL, container.unmap_dma, MALFORMED)
    assert locked_bytes(pf_user) == SIZE
    assert container.unmap_dma(0, 0, ALL) == SIZE
    assert locked_bytes(pf_user) == 0


@claim("F85")
def test_an_unmap_that_wraps_overflows(container):
    """An unmap past the end of the address space fails with EOVERFLOW."""
    with refused(EOVERFLOW):
        container.unmap_dma(LAST_PAGE, 2 * PAGE_BYTES)
    assert container.unmap_dma(LAST_PAGE, PAGE_BYTES) == 0


@claim("F46")
@pytest.mark.topology("virtio-iommu")
def test_the_last_page_of_the_address_space_can_be_mapped(pf_user, container, memory):
    """The last page of the address space can be mapped once and unmapped."""
    container.map_dma(memory, LAST_PAGE, PAGE_BYTES)
    with refused(EEXIST):
        container.map_dma(memory, LAST_PAGE, PAGE_BYTES)
    assert container.unmap_dma(LAST_PAGE, PAGE_BYTES) == PAGE_BYTES
    assert locked_bytes(pf_user) == 0


@claim("F91")
def test_mappings_end_with_the_last_group(pf_user, pf_group, container, memory):
    """A container loses its mappings with its last group, and their memory is unlocked."""
    container.map_dma(memory, IOVA, SIZE)
    pf_group.unset_container()
    assert locked_bytes(pf_user) == 0
    with refused(EINVAL):
        container.unmap_dma(IOVA, SIZE)
    pf_group.set_container(container)
    container.set_iommu(VFIO_TYPE1_IOMMU)
    container.map_dma(memory, IOVA, PAGE_BYTES)


@claim("F51")
def test_a_container_without_a_group_reports_only_version_and_extensions(pf_user, pf, memory):
    """A container without a group reports its version and extensions and refuses the rest."""
    empty = Container(pf_user)
    assert (empty.get_api_version(), empty.check_extension(VFIO_TYPE1_IOMMU)) == (0, 1)
    calls = {
        "a type": lambda: empty.set_iommu(VFIO_TYPE1_IOMMU),
        "limits": empty.get_info,
        "a mapping": lambda: empty.map_dma(memory, IOVA, SIZE),
        "an unmapping": lambda: empty.unmap_dma(IOVA, SIZE),
        "dirty pages": lambda: empty.dirty_pages(1),
    }
    all_refused(EINVAL, calls)
    pf_user.open_group(pf).set_container(empty)
    empty.set_iommu(VFIO_TYPE1_IOMMU)
