"""What does a container report about itself?

Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_get_info() and _check_extension().
"""

import struct
from errno import EINVAL

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi import vfio
from vfio_lab.uapi.vfio_type1 import (
    VFIO_IOMMU_INFO_CAPS,
    VFIO_IOMMU_INFO_PGSIZES,
    VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

FLAGS = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS
PAGE_SIZES = 1 << 12 | 1 << 21 | 1 << 30  # those of the guest's IOMMU
LARGEST_BITMAP_BYTES = 1 << 28
LAST = (1 << 48) - 1
EXTENSIONS = {
    vfio.VFIO_TYPE1_IOMMU: 1,
    vfio.VFIO_TYPE1v2_IOMMU: 1,
    vfio.VFIO_DMA_CC_IOMMU: 0,  # the guest's IOMMU does not control snooping
    vfio.VFIO_NOIOMMU_IOMMU: 0,
    vfio.VFIO_UNMAP_ALL: 1,
    vfio.VFIO_UPDATE_VADDR: 1,
}


@claim("F96")
def test_a_container_reports_page_sizes_and_ranges(container, pf, interrupt_window):
    """A container reports page sizes, usable ranges and limits of dirty bitmaps."""
    info = container.get_info(argsz=1024)
    assert (info.flags, info.iova_pgsizes, info.cap_offset) == (FLAGS, PAGE_SIZES, 24)
    first, last = interrupt_window[0], interrupt_window[-1]
    assert container.iova_ranges() == [(0, first - 1), (last + 1, LAST)]
    reserved = pf.read("iommu_group/reserved_regions").split()[:2]
    assert reserved == [f"{first:#018x}", f"{last:#018x}"]
    data = {each.id: each.data for each in container.capabilities()}
    _, flags, sizes, most = struct.unpack_from(
        "<QIxxxxQQ", data[VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION]
    )
    assert (flags, sizes, most) == (0, PAGE_BYTES, LARGEST_BITMAP_BYTES)


@claim("F96")
def test_a_container_reports_the_size_of_its_answer(container):
    """A container reports the size of its answer and omits capabilities that do not fit."""
    with refused(EINVAL):
        container.get_info(argsz=15)
    needed = container.get_info(argsz=16).argsz
    assert needed > 24
    short = container.get_info(argsz=needed - 1)
    assert (short.argsz, short.cap_offset, short.flags) == (needed, 0, FLAGS)
    whole = container.get_info(argsz=needed)
    assert (whole.argsz, whole.cap_offset) == (needed, 24)


@claim("F96")
def test_a_container_offers_the_extensions_of_type1(container):
    """A container offers both types and the extensions of type1, and none that it lacks."""
    assert {one: container.check_extension(one) for one in EXTENSIONS} == EXTENSIONS


@claim("F49")
def test_the_nesting_type_is_offered(pf_group, container):
    """A container offers the nesting type, and setting it fails if the IOMMU cannot nest."""
    assert container.check_extension(vfio.VFIO_TYPE1_NESTING_IOMMU) == 1
    pf_group.unset_container()
    pf_group.set_container(container)
    with refused(EINVAL):
        container.set_iommu(vfio.VFIO_TYPE1_NESTING_IOMMU)
