"""The 82540EM (e1000) and the 82574 (e1000e): one interrupt, raised at will.

Source: Intel 82540EM and 82574 software developer's manuals, interrupt registers.
"""

from __future__ import annotations

from vfio_lab.drivers.intel_nic import IntelNic

ICR = 0x00C0
ICS = 0x00C8
IMS = 0x00D0
# A cause that nothing else raises: no scenario talks to the PHY. A changed link would not do: QEMU
# ends each NIC's autonegotiation half a second into a clone (hw/net/e1000x_common.c).
MDIO_DONE = 1 << 9


class E1000(IntelNic):
    """An e1000 or e1000e in the hands of its user."""

    def interrupt(self) -> None:
        """Raise the NIC's interrupt; INTx stays asserted until `acknowledge`."""
        self.write(IMS, MDIO_DONE)
        self.write(ICS, MDIO_DONE)

    def acknowledge(self) -> None:
        """Take back the interrupt: reading the causes clears them."""
        self.read(ICR)
