# ruff: noqa: N801 - structs keep their kernel names
"""Migration of devices, the log of their DMA, and display planes, as in <linux/vfio.h>.

Source: include/uapi/linux/vfio.h.
"""

from __future__ import annotations

import ctypes

from vfio_lab.uapi.layout import kernel_struct, u32, u64
from vfio_lab.uapi.vfio import io

VFIO_MIG_GET_PRECOPY_INFO = io(21)

VFIO_MIGRATION_STOP_COPY = 1 << 0
VFIO_MIGRATION_P2P = 1 << 1
VFIO_MIGRATION_PRE_COPY = 1 << 2

VFIO_DEVICE_STATE_ERROR = 0
VFIO_DEVICE_STATE_STOP = 1
VFIO_DEVICE_STATE_RUNNING = 2
VFIO_DEVICE_STATE_STOP_COPY = 3
VFIO_DEVICE_STATE_RESUMING = 4
VFIO_DEVICE_STATE_RUNNING_P2P = 5
VFIO_DEVICE_STATE_PRE_COPY = 6
VFIO_DEVICE_STATE_PRE_COPY_P2P = 7

VFIO_GFX_PLANE_TYPE_PROBE = 1 << 0
VFIO_GFX_PLANE_TYPE_DMABUF = 1 << 1
VFIO_GFX_PLANE_TYPE_REGION = 1 << 2

VFIO_REGION_TYPE_GFX = 1
VFIO_REGION_SUBTYPE_GFX_EDID = 1


@kernel_struct
class vfio_precopy_info(ctypes.Structure):
    """Argument of VFIO_MIG_GET_PRECOPY_INFO."""

    argsz: u32
    flags: u32
    initial_bytes: u64
    dirty_bytes: u64


@kernel_struct
class vfio_device_feature_dma_logging_control(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_DMA_LOGGING_START."""

    page_size: u64
    num_ranges: u32
    reserved: u32
    ranges: u64


@kernel_struct
class vfio_device_feature_dma_logging_range(ctypes.Structure):
    """A range of addresses in VFIO_DEVICE_FEATURE_DMA_LOGGING_START."""

    iova: u64
    length: u64


@kernel_struct
class vfio_device_feature_dma_logging_report(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT."""

    iova: u64
    length: u64
    page_size: u64
    bitmap: u64


@kernel_struct
class vfio_device_gfx_plane_info(ctypes.Structure):
    """Argument of VFIO_DEVICE_QUERY_GFX_PLANE.

    `region_index` is the dma-buf's ID where the plane is a dma-buf: C has a union there.
    """

    argsz: u32
    flags: u32
    drm_plane_type: u32
    drm_format: u32
    drm_format_mod: u64
    width: u32
    height: u32
    stride: u32
    size: u32
    x_pos: u32
    y_pos: u32
    x_hot: u32
    y_hot: u32
    region_index: u32
    reserved: u32
