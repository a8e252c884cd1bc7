# ruff: noqa: N801 - structs keep their kernel names
"""Ioctls, structs and constants of <linux/kvm.h> that concern vfio, by their kernel names.

Source: include/uapi/linux/kvm.h; Documentation/virt/kvm/devices/vfio.rst.
"""

from __future__ import annotations

import ctypes

from vfio_lab.uapi.layout import kernel_struct, u32, u64

KVMIO = 0xAE
WRITE, READ_WRITE = 1, 3


def _ioc(direction: int, number: int, size: int) -> int:
    """Return an ioctl's number as `_IOC` makes it."""
    return direction << 30 | size << 16 | KVMIO << 8 | number


@kernel_struct
class kvm_create_device(ctypes.Structure):
    """struct kvm_create_device."""

    type: u32
    fd: u32
    flags: u32


@kernel_struct
class kvm_device_attr(ctypes.Structure):
    """struct kvm_device_attr."""

    flags: u32
    group: u32
    attr: u64
    addr: u64


KVM_GET_API_VERSION = _ioc(0, 0x00, 0)
KVM_CREATE_VM = _ioc(0, 0x01, 0)
KVM_CREATE_DEVICE = _ioc(READ_WRITE, 0xE0, ctypes.sizeof(kvm_create_device))
KVM_SET_DEVICE_ATTR = _ioc(WRITE, 0xE1, ctypes.sizeof(kvm_device_attr))
KVM_HAS_DEVICE_ATTR = _ioc(WRITE, 0xE3, ctypes.sizeof(kvm_device_attr))

KVM_DEV_TYPE_VFIO = 4
KVM_DEV_VFIO_FILE = 1
KVM_DEV_VFIO_FILE_ADD = 1
KVM_DEV_VFIO_FILE_DEL = 2
