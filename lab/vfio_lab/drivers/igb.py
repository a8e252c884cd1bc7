"""The 82576 in loopback mode: it receives what it sends, so it copies memory.

Source: tools/testing/selftests/vfio/lib/drivers/igb/igb.c (in v7.3), and the 82576 datasheet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol, Self

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.client.user import User
from vfio_lab.drivers.intel_nic import IntelNic
from vfio_lab.util.deadline import Deadline, wait_until

BAR_BYTES = 1 << 16
LINK_TIMEOUT_S = 10.0
FRAME_TIMEOUT_S = 5.0
# Default IOVAs of the device's pages.
RINGS, SOURCE, TARGET = 0x10_0000, 0x20_0000, 0x30_0000
UNTOUCHED = b"\xa5"

COMMAND = 0x04
COMMAND_MEMORY, COMMAND_MASTER = 1 << 1, 1 << 2

STATUS, STATUS_LU = 0x00008, 1 << 1
MDIC, MDIC_WRITE, MDIC_PHY_1 = 0x00020, 1 << 26, 1 << 21
BMCR_RESTART_AUTONEG = 1 << 12 | 1 << 9
RCTL = 0x00100
# Enable; accept all unicast, multicast and broadcast frames; MAC loopback; strip the CRC.
RCTL_LOOPBACK = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 15 | 1 << 6 | 1 << 26
TCTL, TCTL_EN = 0x00400, 1 << 1 | 1 << 3
RX_RING, RDH, RDT, RXDCTL = 0x0C000, 0x0C010, 0x0C018, 0x0C028
TX_RING, TDH, TDT, TXDCTL = 0x0E000, 0x0E010, 0x0E018, 0x0E028
# Bit N of EICS raises MSI-X vector N.
GPIE, EICS, EIMS, EICR = 0x01514, 0x01520, 0x01524, 0x01580
GPIE_MSIX_MODE = 1 << 4
QUEUE_ENABLE = 1 << 25
ONE_BUFFER = 1 << 25

RING_ENTRIES = 8
DESCRIPTOR_BYTES = 16
RX_RING_OFFSET = PAGE_BYTES // 2
# Advanced data descriptor, end of packet, insert the frame's checksum, report status.
SEND_ONE = 0x3 << 20 | 1 << 29 | 1 << 24 | 1 << 25 | 1 << 27
PAYLEN_SHIFT = 14


class Igb(IntelNic):
    """The driver of an open 82576."""

    def interrupt_vector(self, vector: int) -> None:
        """Raise an MSI-X vector, even if it was raised before.

        Args:
            vector: the vector's number, from 0.
        """
        self.write(GPIE, GPIE_MSIX_MODE)
        self.write(EICR, 1 << vector)
        self.write(EIMS, 1 << vector)
        self.write(EICS, 1 << vector)


class Driven(Protocol):
    """An open function, whatever driver it is opened through."""

    user: User

    def mmap_region(self, index: int, size: int, /) -> int:
        """Map the first `size` bytes of a BAR."""
        ...

    def write_config(self, offset: int, data: bytes, /) -> int:
        """Write the function's config space."""
        ...


@dataclass(frozen=True)
class Page:
    """A page of a user's memory.

    Args:
        address: the page's address in the user's memory.
        iova: the address that the device uses.
    """

    address: int
    iova: int


class Loopback:
    """An open 82576 with a page for its rings, a page to send from and a page to receive into.

    The pages are not mapped for DMA; the caller maps them.

    Args:
        device: the open function.
        rings: the IOVA of the page with both rings.
        source: the IOVA of the page that the device sends from.
        target: the IOVA of the page that the device receives into.
        memory: the address of the three pages; new ones are allocated by default.
    """

    def __init__(
        self,
        device: Driven,
        rings: int = RINGS,
        source: int = SOURCE,
        target: int = TARGET,
        *,
        memory: int | None = None,
    ) -> None:
        """Map the registers and, unless they are given, allocate the pages."""
        self.device = device
        self.user: User = device.user
        start = self.user.allocate(3 * PAGE_BYTES) if memory is None else memory
        self.rings = Page(start, rings)
        self.source = Page(start + PAGE_BYTES, source)
        self.target = Page(start + 2 * PAGE_BYTES, target)
        # A page that was never written may be the kernel's zero page, which a write replaces.
        self.user.poke(start, bytes(3 * PAGE_BYTES))
        self.registers = device.mmap_region(0, BAR_BYTES)
        self.mapped: tuple[tuple[int, int], ...] = (
            (self.registers, BAR_BYTES),
            (start, 3 * PAGE_BYTES),
        )
        self.tail = 0

    def __repr__(self) -> str:
        """Return `Loopback(DEVICE)`."""
        return f"{type(self).__name__}({self.device!r})"

    def __enter__(self) -> Self:
        """Unmap everything at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unmap everything."""
        self.close()

    def close(self) -> None:
        """Unmap the registers, which keep the device open, and the pages; again does nothing."""
        mapped, self.mapped = self.mapped, ()
        for address, size in mapped:
            self.user.munmap(address, size)

    def start(self) -> None:
        """Enable bus mastering, bring the link up and set the rings, which must be mapped."""
        self.master(on=True)
        self._write(MDIC, MDIC_WRITE | MDIC_PHY_1 | BMCR_RESTART_AUTONEG)
        up = Deadline.after(LINK_TIMEOUT_S)
        wait_until("the link of the 82576", lambda: self.read(STATUS) & STATUS_LU, up)
        length = RING_ENTRIES * DESCRIPTOR_BYTES
        self._write(TX_RING, self.rings.iova, 0, length, 0, 0, 0, 0)
        self._write(TXDCTL, QUEUE_ENABLE)
        self._write(RX_RING, self.rings.iova + RX_RING_OFFSET, 0, length, ONE_BUFFER, 0, 0, 0)
        self._write(RXDCTL, QUEUE_ENABLE)
        self._write(RCTL, RCTL_LOOPBACK)
        self._write(TCTL, TCTL_EN)
        self.tail = 0

    def master(self, *, on: bool) -> None:
        """Enable or disable bus mastering, which the device needs for DMA."""
        command = COMMAND_MEMORY | (COMMAND_MASTER if on else 0)
        self.device.write_config(COMMAND, command.to_bytes(2, "little"))

    def copy(self, data: bytes) -> bytes:
        """Make the device copy `data` (at least 60 bytes) and return the contents of the target.

        Bytes that the device cannot write keep the value `UNTOUCHED`.

        Raises:
            DeadlineExceeded: the device did not process the send descriptor.
        """
        self.user.poke(self.source.address, data)
        self.user.poke(self.target.address, UNTOUCHED * len(data))
        offset = self.tail * DESCRIPTOR_BYTES
        command, length = len(data) | SEND_ONE, len(data) << PAYLEN_SHIFT
        sent = struct.pack("<QII", self.source.iova, command, length)
        self.user.poke(self.rings.address + offset, sent)
        free = struct.pack("<QQ", self.target.iova, 0)
        self.user.poke(self.rings.address + RX_RING_OFFSET + offset, free)
        self.tail = (self.tail + 1) % RING_ENTRIES
        self._write(RDT, self.tail)
        self._write(TDT, self.tail)
        tried = Deadline.after(FRAME_TIMEOUT_S)
        wait_until("the 82576 to send", lambda: self.read(TDH) == self.tail, tried)
        return self.user.peek(self.target.address, len(data))

    def read(self, register: int) -> int:
        """Return the value of a register."""
        return int.from_bytes(self.user.peek(self.registers + register, 4, 4), "little")

    def _write(self, register: int, *values: int) -> None:
        """Write consecutive registers."""
        self.user.poke(self.registers + register, struct.pack(f"<{len(values)}I", *values), 4)
