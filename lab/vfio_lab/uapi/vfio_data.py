# ruff: noqa: N801 - structs keep their kernel names
"""Data that follows a fixed struct in <linux/vfio.h>: capabilities, and the data of features.

Source: include/uapi/linux/vfio.h.
"""

from __future__ import annotations

import ctypes

from vfio_lab.uapi.layout import kernel_struct, s32, u32, u64
from vfio_lab.uapi.vfio import vfio_info_cap_header


@kernel_struct
class vfio_device_info_cap_pci_atomic_comp(ctypes.Structure):
    """Capability VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP."""

    header: vfio_info_cap_header
    flags: u32
    reserved: u32


@kernel_struct
class vfio_region_info_cap_type(ctypes.Structure):
    """Capability VFIO_REGION_INFO_CAP_TYPE."""

    header: vfio_info_cap_header
    type: u32
    subtype: u32


@kernel_struct
class vfio_iommu_type1_info_cap_migration(ctypes.Structure):
    """Capability VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION."""

    header: vfio_info_cap_header
    flags: u32
    pgsize_bitmap: u64
    max_dirty_bitmap_size: u64


@kernel_struct
class vfio_device_feature_migration(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_MIGRATION."""

    flags: u64


@kernel_struct
class vfio_device_feature_mig_state(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE."""

    device_state: u32
    data_fd: s32


@kernel_struct
class vfio_device_feature_mig_data_size(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_MIG_DATA_SIZE."""

    stop_copy_length: u64


@kernel_struct
class vfio_device_feature_bus_master(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_BUS_MASTER."""

    op: u32
