# ruff: noqa: N801 - structs keep their kernel names
"""Ioctls, structs and constants of <linux/vfio.h>, by their kernel names.

What a container does once it has an IOMMU is in `vfio_lab.uapi.vfio_type1`.
Flexible arrays are left out: the fixed part is the struct, what follows it is bytes.
The layouts are the newest (7.3); an older kernel knows a prefix of them.

Source: include/uapi/linux/vfio.h.
"""

from __future__ import annotations

import ctypes

from vfio_lab.uapi.layout import (
    kernel_struct,
    s32,
    u8,
    u16,
    u32,
    u64,
)

VFIO_API_VERSION = 0

VFIO_TYPE1_IOMMU = 1
VFIO_TYPE1v2_IOMMU = 3
VFIO_DMA_CC_IOMMU = 4
VFIO_TYPE1_NESTING_IOMMU = 6
VFIO_NOIOMMU_IOMMU = 8
VFIO_UNMAP_ALL = 9
VFIO_UPDATE_VADDR = 10

VFIO_TYPE = ord(";")
VFIO_BASE = 100


def io(offset: int) -> int:
    """Return `_IO(VFIO_TYPE, VFIO_BASE + offset)`, which encodes no size."""
    return VFIO_TYPE << 8 | VFIO_BASE + offset


# Ioctls of a container (/dev/vfio/vfio, or /dev/iommu standing in for it)
VFIO_GET_API_VERSION = io(0)
VFIO_CHECK_EXTENSION = io(1)
VFIO_SET_IOMMU = io(2)

# Ioctls of a group (/dev/vfio/$GROUP)
VFIO_GROUP_GET_STATUS = io(3)
VFIO_GROUP_SET_CONTAINER = io(4)
VFIO_GROUP_UNSET_CONTAINER = io(5)
VFIO_GROUP_GET_DEVICE_FD = io(6)

# Ioctls of a device
VFIO_DEVICE_GET_INFO = io(7)
VFIO_DEVICE_GET_REGION_INFO = io(8)
VFIO_DEVICE_GET_IRQ_INFO = io(9)
VFIO_DEVICE_SET_IRQS = io(10)
VFIO_DEVICE_RESET = io(11)
VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = io(12)
VFIO_DEVICE_PCI_HOT_RESET = io(13)
VFIO_DEVICE_QUERY_GFX_PLANE = io(14)
VFIO_DEVICE_GET_GFX_DMABUF = io(15)
VFIO_DEVICE_IOEVENTFD = io(16)
VFIO_DEVICE_FEATURE = io(17)
VFIO_DEVICE_BIND_IOMMUFD = io(18)
VFIO_DEVICE_ATTACH_IOMMUFD_PT = io(19)
VFIO_DEVICE_DETACH_IOMMUFD_PT = io(20)

VFIO_GROUP_FLAGS_VIABLE = 1 << 0
VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1

VFIO_DEVICE_FLAGS_RESET = 1 << 0
VFIO_DEVICE_FLAGS_PCI = 1 << 1
VFIO_DEVICE_FLAGS_CAPS = 1 << 7
VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5

VFIO_REGION_INFO_FLAG_READ = 1 << 0
VFIO_REGION_INFO_FLAG_WRITE = 1 << 1
VFIO_REGION_INFO_FLAG_MMAP = 1 << 2
VFIO_REGION_INFO_FLAG_CAPS = 1 << 3
VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1
VFIO_REGION_INFO_CAP_TYPE = 2
VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3

VFIO_PCI_BAR0_REGION_INDEX = 0
VFIO_PCI_BAR1_REGION_INDEX = 1
VFIO_PCI_BAR2_REGION_INDEX = 2
VFIO_PCI_BAR3_REGION_INDEX = 3
VFIO_PCI_BAR4_REGION_INDEX = 4
VFIO_PCI_BAR5_REGION_INDEX = 5
VFIO_PCI_ROM_REGION_INDEX = 6
VFIO_PCI_CONFIG_REGION_INDEX = 7
VFIO_PCI_VGA_REGION_INDEX = 8
VFIO_PCI_NUM_REGIONS = 9

VFIO_IRQ_INFO_EVENTFD = 1 << 0
VFIO_IRQ_INFO_MASKABLE = 1 << 1
VFIO_IRQ_INFO_AUTOMASKED = 1 << 2
VFIO_IRQ_INFO_NORESIZE = 1 << 3

VFIO_IRQ_SET_DATA_NONE = 1 << 0
VFIO_IRQ_SET_DATA_BOOL = 1 << 1
VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
VFIO_IRQ_SET_ACTION_MASK = 1 << 3
VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4
VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5

VFIO_PCI_INTX_IRQ_INDEX = 0
VFIO_PCI_MSI_IRQ_INDEX = 1
VFIO_PCI_MSIX_IRQ_INDEX = 2
VFIO_PCI_ERR_IRQ_INDEX = 3
VFIO_PCI_REQ_IRQ_INDEX = 4
VFIO_PCI_NUM_IRQS = 5

VFIO_PCI_DEVID_OWNED = 0
VFIO_PCI_DEVID_NOT_OWNED = -1
VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0
VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1

VFIO_DEVICE_IOEVENTFD_8 = 1 << 0
VFIO_DEVICE_IOEVENTFD_16 = 1 << 1
VFIO_DEVICE_IOEVENTFD_32 = 1 << 2
VFIO_DEVICE_IOEVENTFD_64 = 1 << 3

VFIO_DEVICE_FEATURE_MASK = 0xFFFF
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_SET = 1 << 17
VFIO_DEVICE_FEATURE_PROBE = 1 << 18
VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0
VFIO_DEVICE_FEATURE_MIGRATION = 1
VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4
VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5
VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6
VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7
VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8
VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9
VFIO_DEVICE_FEATURE_BUS_MASTER = 10
VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0
VFIO_DEVICE_FEATURE_SET_MASTER = 1
VFIO_DEVICE_FEATURE_DMA_BUF = 11
VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12
VFIO_DEVICE_FEATURE_ZPCI_ERROR = 13

VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0
VFIO_DEVICE_ATTACH_PASID = 1 << 0
VFIO_DEVICE_DETACH_PASID = 1 << 0


@kernel_struct
class vfio_info_cap_header(ctypes.Structure):
    """One link of the capability chain of an INFO ioctl."""

    id: u16
    version: u16
    next: u32


@kernel_struct
class vfio_group_status(ctypes.Structure):
    """VFIO_GROUP_GET_STATUS."""

    argsz: u32
    flags: u32


@kernel_struct
class vfio_device_info(ctypes.Structure):
    """VFIO_DEVICE_GET_INFO."""

    argsz: u32
    flags: u32
    num_regions: u32
    num_irqs: u32
    cap_offset: u32
    pad: u32


@kernel_struct
class vfio_region_info(ctypes.Structure):
    """VFIO_DEVICE_GET_REGION_INFO."""

    argsz: u32
    flags: u32
    index: u32
    cap_offset: u32
    size: u64
    offset: u64


@kernel_struct
class vfio_region_sparse_mmap_area(ctypes.Structure):
    """One element after `vfio_region_info_cap_sparse_mmap`."""

    offset: u64
    size: u64


@kernel_struct
class vfio_region_info_cap_sparse_mmap(ctypes.Structure):
    """Capability VFIO_REGION_INFO_CAP_SPARSE_MMAP, without its array."""

    header: vfio_info_cap_header
    nr_areas: u32
    reserved: u32


@kernel_struct
class vfio_irq_info(ctypes.Structure):
    """VFIO_DEVICE_GET_IRQ_INFO."""

    argsz: u32
    flags: u32
    index: u32
    count: u32


@kernel_struct
class vfio_irq_set(ctypes.Structure):
    """VFIO_DEVICE_SET_IRQS, without its data."""

    argsz: u32
    flags: u32
    index: u32
    start: u32
    count: u32


@kernel_struct
class vfio_pci_dependent_device(ctypes.Structure):
    """One element after `vfio_pci_hot_reset_info`; `group_id` is a union with `devid`."""

    group_id: u32
    segment: u16
    bus: u8
    devfn: u8


@kernel_struct
class vfio_pci_hot_reset_info(ctypes.Structure):
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, without its array."""

    argsz: u32
    flags: u32
    count: u32


@kernel_struct
class vfio_pci_hot_reset(ctypes.Structure):
    """VFIO_DEVICE_PCI_HOT_RESET, without its array of s32 group descriptors."""

    argsz: u32
    flags: u32
    count: u32


@kernel_struct
class vfio_device_ioeventfd(ctypes.Structure):
    """VFIO_DEVICE_IOEVENTFD."""

    argsz: u32
    flags: u32
    offset: u64
    data: u64
    fd: s32
    reserved: u32


@kernel_struct
class vfio_device_feature(ctypes.Structure):
    """VFIO_DEVICE_FEATURE, without its data."""

    argsz: u32
    flags: u32


@kernel_struct
class vfio_device_low_power_entry_with_wakeup(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP."""

    wakeup_eventfd: s32
    reserved: u32


@kernel_struct
class vfio_region_dma_range(ctypes.Structure):
    """One element after `vfio_device_feature_dma_buf`."""

    offset: u64
    length: u64


@kernel_struct
class vfio_device_feature_dma_buf(ctypes.Structure):
    """Data of VFIO_DEVICE_FEATURE_DMA_BUF, without its array."""

    region_index: u32
    open_flags: u32
    flags: u32
    nr_ranges: u32


@kernel_struct
class vfio_device_bind_iommufd(ctypes.Structure):
    """VFIO_DEVICE_BIND_IOMMUFD; kernels without token support end before `token_uuid_ptr`."""

    argsz: u32
    flags: u32
    iommufd: s32
    out_devid: u32
    token_uuid_ptr: u64


@kernel_struct
class vfio_device_attach_iommufd_pt(ctypes.Structure):
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT; kernels without PASID support end before `pasid`."""

    argsz: u32
    flags: u32
    pt_id: u32
    pasid: u32


@kernel_struct
class vfio_device_detach_iommufd_pt(ctypes.Structure):
    """VFIO_DEVICE_DETACH_IOMMUFD_PT; kernels without PASID support end before `pasid`."""

    argsz: u32
    flags: u32
    pasid: u32
