"""The answer of VFIO_DEVICE_GET_PCI_HOT_RESET_INFO as values."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from vfio_lab.uapi import vfio

ROOM_FOR_DEVICES = 32
FUNCTION_BITS = 3
FUNCTION_MASK = 7


@dataclass(frozen=True)
class Affected:
    """A device that a hot reset would affect.

    Args:
        owner: the device's group number on the group path, its devid on the cdev path.
        bdf: the device's BDF.
    """

    owner: int
    bdf: str

    @property
    def devid(self) -> int:
        """The owner on the cdev path: a devid, or one of VFIO_PCI_DEVID_*."""
        return ctypes.c_int32(self.owner).value


@dataclass(frozen=True)
class HotResetInfo:
    """An answer of the ioctl.

    Args:
        argsz: the field's value after the call.
        flags: VFIO_PCI_HOT_RESET_FLAG_*.
        count: how many devices are affected, as reported by the kernel.
        devices: the affected devices that fit into the buffer.
    """

    argsz: int
    flags: int
    count: int
    devices: tuple[Affected, ...]

    @property
    def bdfs(self) -> frozenset[str]:
        """BDFs of the affected devices."""
        return frozenset(one.bdf for one in self.devices)

    @property
    def devids(self) -> dict[str, int]:
        """Devids of the affected devices by BDF; valid on the cdev path only."""
        return {one.bdf: one.devid for one in self.devices}

    @property
    def groups(self) -> frozenset[int]:
        """Numbers of the affected groups; valid on the group path only."""
        return frozenset(one.owner for one in self.devices)


def hot_reset_info_bytes(devices: int = ROOM_FOR_DEVICES) -> int:
    """Return the size in bytes of an INFO buffer for a number of devices."""
    element = ctypes.sizeof(vfio.vfio_pci_dependent_device)
    return ctypes.sizeof(vfio.vfio_pci_hot_reset_info) + devices * element


def parse_hot_reset_info(fixed: vfio.vfio_pci_hot_reset_info, tail: bytes) -> HotResetInfo:
    """Return the answer in an INFO buffer, given its header and the bytes after it."""
    element = ctypes.sizeof(vfio.vfio_pci_dependent_device)
    listed = min(fixed.count, len(tail) // element)
    devices = tuple(
        _affected(vfio.vfio_pci_dependent_device.from_buffer_copy(tail, index * element))
        for index in range(listed)
    )
    return HotResetInfo(fixed.argsz, fixed.flags, fixed.count, devices)


def left_in_buffer(raw: bytes) -> HotResetInfo:
    """Return the contents of the buffer after a refused INFO."""
    size = ctypes.sizeof(vfio.vfio_pci_hot_reset_info)
    fixed = vfio.vfio_pci_hot_reset_info.from_buffer_copy(raw[:size])
    return parse_hot_reset_info(fixed, raw[size:])


def _affected(entry: vfio.vfio_pci_dependent_device) -> Affected:
    slot, function = entry.devfn >> FUNCTION_BITS, entry.devfn & FUNCTION_MASK
    return Affected(entry.group_id, f"{entry.segment:04x}:{entry.bus:02x}:{slot:02x}.{function}")
