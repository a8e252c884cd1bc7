"""What VFIO_DEVICE_GET_PCI_HOT_RESET_INFO says, as values."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from vfio_lab.uapi import vfio

ROOM_FOR_DEVICES = 32
FUNCTION_BITS = 3
FUNCTION_MASK = 7


@dataclass(frozen=True)
class Affected:
    """A device that a hot reset would hit.

    Args:
        owner: its group number on the group path, its devid on the cdev path.
        bdf: its name.
    """

    owner: int
    bdf: str

    @property
    def devid(self) -> int:
        """The owner as the cdev path means it: a devid, or one of VFIO_PCI_DEVID_*."""
        return ctypes.c_int32(self.owner).value


@dataclass(frozen=True)
class HotResetInfo:
    """One answer.

    Args:
        argsz: as the kernel left it.
        flags: VFIO_PCI_HOT_RESET_FLAG_*.
        count: how many devices the kernel says are affected.
        devices: those it had room to list.
    """

    argsz: int
    flags: int
    count: int
    devices: tuple[Affected, ...]

    @property
    def bdfs(self) -> frozenset[str]:
        """Names of the affected devices."""
        return frozenset(one.bdf for one in self.devices)

    @property
    def devids(self) -> dict[str, int]:
        """Devids of the affected devices by name; of meaning on the cdev path only."""
        return {one.bdf: one.devid for one in self.devices}

    @property
    def groups(self) -> frozenset[int]:
        """Numbers of the affected groups; of meaning on the group path only."""
        return frozenset(one.owner for one in self.devices)


def hot_reset_info_bytes(devices: int = ROOM_FOR_DEVICES) -> int:
    """Return the size of an INFO buffer with room for so many devices."""
    element = ctypes.sizeof(vfio.vfio_pci_dependent_device)
    return ctypes.sizeof(vfio.vfio_pci_hot_reset_info) + devices * element


def parse_hot_reset_info(fixed: vfio.vfio_pci_hot_reset_info, tail: bytes) -> HotResetInfo:
    """Return the answer in an INFO buffer: its header and what follows it."""
    element = ctypes.sizeof(vfio.vfio_pci_dependent_device)
    listed = min(fixed.count, len(tail) // element)
    devices = tuple(
        _affected(vfio.vfio_pci_dependent_device.from_buffer_copy(tail, index * element))
        for index in range(listed)
    )
    return HotResetInfo(fixed.argsz, fixed.flags, fixed.count, devices)


def left_in_buffer(raw: bytes) -> HotResetInfo:
    """Return what a refused INFO left in its buffer."""
    size = ctypes.sizeof(vfio.vfio_pci_hot_reset_info)
    fixed = vfio.vfio_pci_hot_reset_info.from_buffer_copy(raw[:size])
    return parse_hot_reset_info(fixed, raw[size:])


def _affected(one: vfio.vfio_pci_dependent_device) -> Affected:
    slot, function = one.devfn >> FUNCTION_BITS, one.devfn & FUNCTION_MASK
    return Affected(one.group_id, f"{one.segment:04x}:{one.bus:02x}:{slot:02x}.{function}")
