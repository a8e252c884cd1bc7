"""The kernel's sample `mtty`: a serial port that sends to itself.

Source: samples/vfio-mdev/mtty.c, handle_bar_read() and handle_bar_write().
"""

from __future__ import annotations

from dataclasses import dataclass

from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab.vfio.device import Device

DATA, INTERRUPTS, BUFFER, SCRATCH = 0, 1, 2, 7
WHEN_RECEIVED = 1 << 0
BUFFERED = 1 << 0  # interrupts come with each byte
ROOM_BYTES = 15  # with 16 in it, the sample takes its buffer for empty


@dataclass(frozen=True)
class SerialPort:
    """The first port of an open mtty.

    Args:
        device: the open device.
    """

    device: Device

    def write(self, register: int, value: int) -> None:
        """Write a register of 8 bits."""
        self.device.write_region(VFIO_PCI_BAR0_REGION_INDEX, register, bytes([value]))

    def read(self, register: int) -> int:
        """Return a register of 8 bits."""
        return self.device.read_region(VFIO_PCI_BAR0_REGION_INDEX, register, 1)[0]

    def send(self, message: bytes) -> None:
        """Send bytes, which the port receives itself."""
        for value in message:
            self.write(DATA, value)

    def interrupt_when_received(self) -> None:
        """Interrupt the user at each byte that the port receives."""
        self.write(BUFFER, BUFFERED)
        self.write(INTERRUPTS, WHEN_RECEIVED)

    def receive(self, count: int) -> bytes:
        """Return as many received bytes; they leave the port."""
        return bytes(self.read(DATA) for _ in range(count))
