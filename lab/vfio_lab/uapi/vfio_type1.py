# ruff: noqa: N801 - structs keep their kernel names
"""The part of <linux/vfio.h> for containers with a type1 IOMMU, by kernel names.

Source: include/uapi/linux/vfio.h.
"""

from __future__ import annotations

import ctypes

from vfio_lab.uapi.layout import kernel_struct, u32, u64
from vfio_lab.uapi.vfio import io, vfio_info_cap_header

VFIO_IOMMU_GET_INFO = io(12)
VFIO_IOMMU_MAP_DMA = io(13)
VFIO_IOMMU_UNMAP_DMA = io(14)
VFIO_IOMMU_ENABLE = io(15)
VFIO_IOMMU_DISABLE = io(16)
VFIO_IOMMU_DIRTY_PAGES = io(17)

VFIO_IOMMU_INFO_PGSIZES = 1 << 0
VFIO_IOMMU_INFO_CAPS = 1 << 1
VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1
VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2
VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3

VFIO_DMA_MAP_FLAG_READ = 1 << 0
VFIO_DMA_MAP_FLAG_WRITE = 1 << 1
VFIO_DMA_MAP_FLAG_VADDR = 1 << 2
VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1 << 0
VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1
VFIO_DMA_UNMAP_FLAG_VADDR = 1 << 2

VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1 << 0
VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 1 << 1
VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 1 << 2


@kernel_struct
class vfio_iommu_type1_info(ctypes.Structure):
    """VFIO_IOMMU_GET_INFO."""

    argsz: u32
    flags: u32
    iova_pgsizes: u64
    cap_offset: u32
    pad: u32


@kernel_struct
class vfio_iova_range(ctypes.Structure):
    """One element after `vfio_iommu_type1_info_cap_iova_range`."""

    start: u64
    end: u64


@kernel_struct
class vfio_iommu_type1_info_cap_iova_range(ctypes.Structure):
    """Capability VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, without its array."""

    header: vfio_info_cap_header
    nr_iovas: u32
    reserved: u32


@kernel_struct
class vfio_iommu_type1_info_dma_avail(ctypes.Structure):
    """Capability VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL."""

    header: vfio_info_cap_header
    avail: u32


@kernel_struct
class vfio_iommu_type1_dma_map(ctypes.Structure):
    """VFIO_IOMMU_MAP_DMA."""

    argsz: u32
    flags: u32
    vaddr: u64
    iova: u64
    size: u64


@kernel_struct
class vfio_bitmap(ctypes.Structure):
    """The destination of a dirty bitmap; `data` is an address."""

    pgsize: u64
    size: u64
    data: u64


@kernel_struct
class vfio_iommu_type1_dma_unmap(ctypes.Structure):
    """VFIO_IOMMU_UNMAP_DMA, without its bitmap."""

    argsz: u32
    flags: u32
    iova: u64
    size: u64


@kernel_struct
class vfio_iommu_type1_dirty_bitmap(ctypes.Structure):
    """VFIO_IOMMU_DIRTY_PAGES, without its data."""

    argsz: u32
    flags: u32


@kernel_struct
class vfio_iommu_type1_dirty_bitmap_get(ctypes.Structure):
    """Data of VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP."""

    iova: u64
    size: u64
    bitmap: vfio_bitmap
