"""The lab's own mediated device `pages`, which uses its user's memory as drivers of devices do.

Source: images/drivers/pages.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR1_REGION_INDEX
from vfio_lab.vfio.device import Device

IOMMU_READ, IOMMU_WRITE = 1 << 0, 1 << 1
STATE = struct.Struct("=4Q")


class PagesState(NamedTuple):
    """What a `pages` holds, and what it was asked for.

    Args:
        pins: the orders to pin that were not taken back.
        asked: how often vfio asked for pages because they are unmapped.
        iova: the first IOVA that it asked for last.
        length: bytes that it asked for last.
    """

    pins: int
    asked: int
    iova: int
    length: int


@dataclass(frozen=True)
class Pages:
    """An open `pages`.

    Args:
        device: the open device.
    """

    device: Device

    def pin(self, iova: int, count: int = 1, access: int = IOMMU_READ | IOMMU_WRITE) -> None:
        """Pin pages of the user.

        Args:
            iova: the first page's IOVA.
            count: the number of pages.
            access: IOMMU_READ, IOMMU_WRITE.

        Raises:
            Refusal: the kernel refuses to pin them.
        """
        self._order(iova, count, access)

    def unpin(self, iova: int, count: int = 1) -> None:
        """Take an earlier `pin` back.

        Raises:
            Refusal: there was no such `pin`.
        """
        self._order(iova, count, 0)

    def state(self) -> PagesState:
        """Return what it holds, and what it was asked for."""
        raw = self.device.read_region(VFIO_PCI_BAR0_REGION_INDEX, 0, STATE.size)
        return PagesState(*STATE.unpack(raw))

    def read(self, iova: int, size: int) -> bytes:
        """Read the user's memory.

        Args:
            iova: the first IOVA.
            size: bytes, at most 65536.
        """
        return self.device.read_region(VFIO_PCI_BAR1_REGION_INDEX, iova, size)

    def write(self, iova: int, data: bytes) -> None:
        """Write the user's memory, at most 65536 bytes."""
        self.device.write_region(VFIO_PCI_BAR1_REGION_INDEX, iova, data)

    def _order(self, iova: int, count: int, access: int) -> None:
        raw = struct.pack("=QII", iova, count, access)
        self.device.write_region(VFIO_PCI_BAR0_REGION_INDEX, 0, raw)
