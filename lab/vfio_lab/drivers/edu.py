"""QEMU's edu device: copies between memory and a buffer of its own, and interrupts.

Source: QEMU docs/specs/edu.rst; hw/misc/edu.c, edu_dma_timer().
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import SOURCE, TARGET, UNTOUCHED, Page
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.vfio.device import Device

COMMAND = 0x04
COMMAND_MEMORY_MASTER = 0x6
IDENTIFICATION = 0x00
CARD_ID = 0x0100_00ED  # version 1.0
LIVENESS = 0x04  # answers with the complement of what was written
IRQ_STATUS, IRQ_RAISE, IRQ_ACKNOWLEDGE = 0x24, 0x60, 0x64
DMA_SOURCE, DMA_DESTINATION, DMA_COUNT, DMA_COMMAND = 0x80, 0x88, 0x90, 0x98
RUN, FROM_DEVICE = 1 << 0, 1 << 1
BUFFER = 0x4_0000  # where the device has its own 4 KiB
COPIED_WITHIN_S = 10.0


@dataclass(frozen=True)
class Edu:
    """The registers of an open edu device.

    Args:
        device: the open device.
    """

    device: Device

    def read(self, register: int) -> int:
        """Return a register of 32 bits."""
        raw = self.device.read_region(VFIO_PCI_BAR0_REGION_INDEX, register, 4)
        return int.from_bytes(raw, "little")

    def write(self, register: int, value: int, size: int = 4) -> None:
        """Write a register.

        Args:
            register: its offset in BAR 0.
            value: what to write.
            size: bytes; those for DMA have 8.
        """
        raw = value.to_bytes(size, "little")
        self.device.write_region(VFIO_PCI_BAR0_REGION_INDEX, register, raw)

    def interrupt(self, value: int = 1) -> None:
        """Raise the device's interrupt; INTx stays asserted until `acknowledge`."""
        self.write(IRQ_RAISE, value)

    def acknowledge(self) -> None:
        """Deassert the interrupt."""
        self.write(IRQ_ACKNOWLEDGE, self.read(IRQ_STATUS))


class EduCopier:
    """An open edu device that copies a page to another through its own buffer.

    The pages are not mapped for DMA; the caller maps them.

    Args:
        device: the open device.
        source: the IOVA of the page that the device reads.
        target: the IOVA of the page that the device writes.
    """

    def __init__(self, device: Device, source: int = SOURCE, target: int = TARGET) -> None:
        """Allocate the pages."""
        self.device = device
        self.user = device.user
        self.registers = Edu(device)
        start = self.user.allocate(2 * PAGE_BYTES)
        self.user.poke(start, bytes(2 * PAGE_BYTES))
        self.source, self.target = Page(start, source), Page(start + PAGE_BYTES, target)

    def __repr__(self) -> str:
        """Return `EduCopier(DEVICE)`."""
        return f"{type(self).__name__}({self.device!r})"

    def __enter__(self) -> Self:
        """Free the pages at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the pages."""
        self.user.munmap(self.source.address, 2 * PAGE_BYTES)

    def start(self) -> None:
        """Enable bus mastering."""
        self.device.write_config(COMMAND, struct.pack("<H", COMMAND_MEMORY_MASTER))

    def copy(self, data: bytes) -> bytes:
        """Make the device copy `data`, a page at most, and return the contents of the target.

        Bytes that the device cannot write keep the value `UNTOUCHED`.

        Raises:
            DeadlineExceeded: the device did not end a transfer.
        """
        self.user.poke(self.source.address, data)
        self.user.poke(self.target.address, UNTOUCHED * len(data))
        self._transfer(self.source.iova, BUFFER, len(data), RUN)
        self._transfer(BUFFER, self.target.iova, len(data), RUN | FROM_DEVICE)
        return self.user.peek(self.target.address, len(data))

    def _transfer(self, source: int, destination: int, size: int, command: int) -> None:
        self.registers.write(DMA_SOURCE, source, 8)
        self.registers.write(DMA_DESTINATION, destination, 8)
        self.registers.write(DMA_COUNT, size, 8)
        self.registers.write(DMA_COMMAND, command, 8)
        wait_until(
            "the edu device to copy",
            lambda: not self.registers.read(DMA_COMMAND) & RUN,
            Deadline.after(COPIED_WITHIN_S),
        )
