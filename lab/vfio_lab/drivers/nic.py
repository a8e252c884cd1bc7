"""An Intel NIC in the hands of its user: its registers, and interrupts raised at will.

Source: Intel 82540EM, 82574 and 82576 software developer's manuals, interrupt registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab.vfio.device import Device

REGISTER_BYTES = 4
# A cause that nothing else raises: nobody here talks to the PHY. A changed link would not do:
# half a second into a clone QEMU lets each NIC finish its autonegotiation (hw/net/igb_core.c
# and its likes, igb_autoneg_resume()).
MDIO_DONE = 1 << 9

# Registers of BAR 0 that the e1000 and e1000e (82540EM, 82574) share.
ICR = 0x00C0
ICS = 0x00C8
IMS = 0x00D0
# Registers of BAR 0 of the igb (82576); EICS raises MSI-X vectors by their number.
GPIE = 0x1514
EICS = 0x1520
EIMS = 0x1524
EICR = 0x1580
GPIE_MSIX_MODE = 1 << 4
# Plain memory in all three: a slot of the multicast table and its neighbour.
MTA = 0x5200
MTA_NEXT = 0x5204


@dataclass(frozen=True)
class Nic:
    """A NIC's registers, reached through the file of the open device.

    Args:
        device: the NIC, open.
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

    def interrupt(self) -> None:
        """Raise the NIC's interrupt (e1000, e1000e); INTx stays asserted until acknowledged."""
        self.write(IMS, MDIO_DONE)
        self.write(ICS, MDIO_DONE)

    def acknowledge(self) -> None:
        """Take back the interrupt (e1000, e1000e): reading the causes clears them."""
        self.read(ICR)

    def interrupt_vector(self, vector: int) -> None:
        """Raise one MSI-X vector (igb), whether or not it was raised before."""
        self.write(GPIE, GPIE_MSIX_MODE)
        self.write(EICR, 1 << vector)
        self.write(EIMS, 1 << vector)
        self.write(EICS, 1 << vector)
