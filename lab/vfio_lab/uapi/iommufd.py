# ruff: noqa: N801 - structs keep their kernel names
"""Ioctls, structs and constants of <linux/iommufd.h>, by their kernel names.

Source: include/uapi/linux/iommufd.h.
"""

from __future__ import annotations

import ctypes

from vfio_lab.uapi.layout import (
    kernel_struct,
    s32,
    u8,
    u8x3,
    u16,
    u32,
    u64,
)

IOMMUFD_TYPE = ord(";")


def _io(command: int) -> int:
    """Return `_IO(IOMMUFD_TYPE, command)`, which encodes no size."""
    return IOMMUFD_TYPE << 8 | command


IOMMU_DESTROY = _io(0x80)
IOMMU_IOAS_ALLOC = _io(0x81)
IOMMU_IOAS_ALLOW_IOVAS = _io(0x82)
IOMMU_IOAS_COPY = _io(0x83)
IOMMU_IOAS_IOVA_RANGES = _io(0x84)
IOMMU_IOAS_MAP = _io(0x85)
IOMMU_IOAS_UNMAP = _io(0x86)
IOMMU_OPTION = _io(0x87)
IOMMU_VFIO_IOAS = _io(0x88)
IOMMU_HWPT_ALLOC = _io(0x89)
IOMMU_GET_HW_INFO = _io(0x8A)
IOMMU_HWPT_SET_DIRTY_TRACKING = _io(0x8B)
IOMMU_HWPT_GET_DIRTY_BITMAP = _io(0x8C)
IOMMU_HWPT_INVALIDATE = _io(0x8D)
IOMMU_FAULT_QUEUE_ALLOC = _io(0x8E)
IOMMU_IOAS_MAP_FILE = _io(0x8F)
IOMMU_VIOMMU_ALLOC = _io(0x90)
IOMMU_VDEVICE_ALLOC = _io(0x91)
IOMMU_IOAS_CHANGE_PROCESS = _io(0x92)
IOMMU_VEVENTQ_ALLOC = _io(0x93)
IOMMU_HW_QUEUE_ALLOC = _io(0x94)
IOMMU_IOAS_NOIOMMU_GET_PA = _io(0x95)

IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0
IOMMU_IOAS_MAP_WRITEABLE = 1 << 1
IOMMU_IOAS_MAP_READABLE = 1 << 2

IOMMU_OPTION_RLIMIT_MODE = 0
IOMMU_OPTION_HUGE_PAGES = 1
IOMMU_OPTION_OP_SET = 0
IOMMU_OPTION_OP_GET = 1

IOMMU_VFIO_IOAS_GET = 0
IOMMU_VFIO_IOAS_SET = 1
IOMMU_VFIO_IOAS_CLEAR = 2

IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0
IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1
IOMMU_HWPT_DATA_NONE = 0
IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1
IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1

IOMMU_HW_INFO_TYPE_NONE = 0
IOMMU_HW_INFO_TYPE_INTEL_VTD = 1
IOMMU_HW_INFO_TYPE_AMD = 4
IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0


@kernel_struct
class iommu_destroy(ctypes.Structure):
    """IOMMU_DESTROY."""

    size: u32
    id: u32


@kernel_struct
class iommu_ioas_alloc(ctypes.Structure):
    """IOMMU_IOAS_ALLOC."""

    size: u32
    flags: u32
    out_ioas_id: u32


@kernel_struct
class iommu_iova_range(ctypes.Structure):
    """One element of the array that IOMMU_IOAS_IOVA_RANGES fills."""

    start: u64
    last: u64


@kernel_struct
class iommu_ioas_iova_ranges(ctypes.Structure):
    """IOMMU_IOAS_IOVA_RANGES; `allowed_iovas` is an address."""

    size: u32
    ioas_id: u32
    num_iovas: u32
    reserved: u32
    allowed_iovas: u64
    out_iova_alignment: u64


@kernel_struct
class iommu_ioas_allow_iovas(ctypes.Structure):
    """IOMMU_IOAS_ALLOW_IOVAS; `allowed_iovas` is an address."""

    size: u32
    ioas_id: u32
    num_iovas: u32
    reserved: u32
    allowed_iovas: u64


@kernel_struct
class iommu_ioas_map(ctypes.Structure):
    """IOMMU_IOAS_MAP."""

    size: u32
    flags: u32
    ioas_id: u32
    reserved: u32
    user_va: u64
    length: u64
    iova: u64


@kernel_struct
class iommu_ioas_map_file(ctypes.Structure):
    """IOMMU_IOAS_MAP_FILE."""

    size: u32
    flags: u32
    ioas_id: u32
    fd: s32
    start: u64
    length: u64
    iova: u64


@kernel_struct
class iommu_ioas_noiommu_get_pa(ctypes.Structure):
    """IOMMU_IOAS_NOIOMMU_GET_PA."""

    size: u32
    flags: u32
    ioas_id: u32
    reserved: u32
    iova: u64
    length: u64
    out_phys: u64


@kernel_struct
class iommu_ioas_change_process(ctypes.Structure):
    """IOMMU_IOAS_CHANGE_PROCESS."""

    size: u32
    reserved: u32


@kernel_struct
class iommu_ioas_copy(ctypes.Structure):
    """IOMMU_IOAS_COPY."""

    size: u32
    flags: u32
    dst_ioas_id: u32
    src_ioas_id: u32
    length: u64
    dst_iova: u64
    src_iova: u64


@kernel_struct
class iommu_ioas_unmap(ctypes.Structure):
    """IOMMU_IOAS_UNMAP."""

    size: u32
    ioas_id: u32
    iova: u64
    length: u64


@kernel_struct
class iommu_option(ctypes.Structure):
    """IOMMU_OPTION."""

    size: u32
    option_id: u32
    op: u16
    reserved: u16
    object_id: u32
    val64: u64


@kernel_struct
class iommu_vfio_ioas(ctypes.Structure):
    """IOMMU_VFIO_IOAS."""

    size: u32
    ioas_id: u32
    op: u16
    reserved: u16


@kernel_struct
class iommu_hwpt_alloc(ctypes.Structure):
    """IOMMU_HWPT_ALLOC; older kernels end before `fault_id`."""

    size: u32
    flags: u32
    dev_id: u32
    pt_id: u32
    out_hwpt_id: u32
    reserved: u32
    data_type: u32
    data_len: u32
    data_uptr: u64
    fault_id: u32
    reserved2: u32


@kernel_struct
class iommu_hw_info(ctypes.Structure):
    """IOMMU_GET_HW_INFO; `out_data_type` is a union with `in_data_type`."""

    size: u32
    flags: u32
    dev_id: u32
    data_len: u32
    data_uptr: u64
    out_data_type: u32
    out_max_pasid_log2: u8
    reserved: u8x3
    out_capabilities: u64


@kernel_struct
class iommu_hwpt_set_dirty_tracking(ctypes.Structure):
    """IOMMU_HWPT_SET_DIRTY_TRACKING."""

    size: u32
    flags: u32
    hwpt_id: u32
    reserved: u32


@kernel_struct
class iommu_hwpt_get_dirty_bitmap(ctypes.Structure):
    """IOMMU_HWPT_GET_DIRTY_BITMAP; `data` is an address."""

    size: u32
    hwpt_id: u32
    flags: u32
    reserved: u32
    iova: u64
    length: u64
    page_size: u64
    data: u64
