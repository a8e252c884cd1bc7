"""The 82540EM (e1000) and the 82574 (e1000e): one interrupt, raised by software.

Source: Intel 82540EM and 82574 software developer's manuals, interrupt registers.
"""

from __future__ import annotations

from vfio_lab.drivers.intel_nic import IntelNic

ICR = 0x00C0
ICS = 0x00C8
IMS = 0x00D0
# No scenario uses the PHY, so nothing else raises this cause. Link status change is unsuitable:
# QEMU ends each NIC's autonegotiation half a second after a clone starts (hw/net/e1000x_common.c).
MDIO_DONE = 1 << 9


class E1000(IntelNic):
    """The driver of an open e1000 or e1000e."""

    def interrupt(self) -> None:
        """Raise the NIC's interrupt; INTx stays asserted until `acknowledge`."""
        self.write(IMS, MDIO_DONE)
        self.write(ICS, MDIO_DONE)

    def acknowledge(self) -> None:
        """Deassert the interrupt by reading the causes, which clears them."""
        self.read(ICR)
