"""The part that all Intel NICs emulated by QEMU share: 32-bit registers in BAR 0.

Source: Intel 82540EM, 82574 and 82576 software developer's manuals.
"""

from __future__ import annotations

from dataclasses import dataclass

from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab.vfio.device import Device

REGISTER_BYTES = 4
# Receive descriptor base of the first queue. An 82576's VF has it too, and a reset clears it. The
# low 4 bits are always 0, in a VF the low 7.
RDBAL = 0x2800
# Two adjacent entries of the multicast table, which behave as plain memory.
MTA = 0x5200
MTA_NEXT = 0x5204


@dataclass(frozen=True)
class IntelNic:
    """A NIC's registers, reached through the file of the open device.

    Args:
        device: the open NIC.
    """

    device: Device

    def read(self, register: int) -> int:
        """Return a register of BAR 0."""
        raw = self.device.read_region(VFIO_PCI_BAR0_REGION_INDEX, register, REGISTER_BYTES)
        return int.from_bytes(raw, "little")

    def write(self, register: int, value: int) -> None:
        """Write a register of BAR 0."""
        raw = value.to_bytes(REGISTER_BYTES, "little")
        self.device.write_region(VFIO_PCI_BAR0_REGION_INDEX, register, raw)
