"""PCI configuration space by register: the one that vfio presents or the hardware's.

Both are read and written in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

from vfio_lab.client.sysfs import PciFunction
from vfio_lab.errors import UsageError
from vfio_lab.uapi.pci_regs import PCI_CAPABILITY_LIST, PCI_CFG_SPACE_SIZE

POINTER_MASK = 0xFC
EXTENDED_ID_MASK = 0xFFFF
EXTENDED_NEXT_SHIFT = 20


class ConfigSpace:
    """A function's configuration space; its numbers are little-endian.

    Args:
        read: returns bytes from an offset, `read(offset, size)`.
        write: writes bytes at an offset, `write(offset, data)`.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], write: Callable[[int, bytes], int]
    ) -> None:
        self.read = read
        self.write = write

    @classmethod
    def of_hardware(cls, function: PciFunction) -> ConfigSpace:
        """Return the function's configuration space in hardware, which sysfs shows to root."""
        root = function.root
        fd = root.open_path(f"{function.path}/config")
        return cls(
            lambda offset, size: root.pread(fd, size, offset),
            lambda offset, data: root.pwrite(fd, data, offset),
        )

    def byte(self, offset: int) -> int:
        """Return a register of 8 bits."""
        return self._get(offset, 1)

    def word(self, offset: int) -> int:
        """Return a register of 16 bits."""
        return self._get(offset, 2)

    def dword(self, offset: int) -> int:
        """Return a register of 32 bits."""
        return self._get(offset, 4)

    def set_byte(self, offset: int, value: int) -> None:
        """Write a register of 8 bits."""
        self.write(offset, value.to_bytes(1, "little"))

    def set_word(self, offset: int, value: int) -> None:
        """Write a register of 16 bits."""
        self.write(offset, value.to_bytes(2, "little"))

    def set_dword(self, offset: int, value: int) -> None:
        """Write a register of 32 bits."""
        self.write(offset, value.to_bytes(4, "little"))

    def capability(self, number: int) -> int:
        """Return the offset of a capability.

        Raises:
            UsageError: it is not in the chain.
        """
        return _find(self.capabilities(), number, "capability")

    def extended(self, number: int) -> int:
        """Return the offset of an extended capability.

        Raises:
            UsageError: it is not in the chain.
        """
        return _find(self.extended_capabilities(), number, "extended capability")

    def capabilities(self) -> dict[int, int]:
        """Return the offset of each capability by its number, in the order of the chain."""
        found: dict[int, int] = {}
        whole = self.read(0, PCI_CFG_SPACE_SIZE)
        offset = whole[PCI_CAPABILITY_LIST] & POINTER_MASK
        seen: set[int] = set()
        while offset and offset not in seen:
            seen.add(offset)
            found.setdefault(whole[offset], offset)
            offset = whole[offset + 1] & POINTER_MASK
        return found

    def extended_capabilities(self) -> dict[int, int]:
        """Return the offset of each extended capability by its number, in the chain's order."""
        found: dict[int, int] = {}
        offset = PCI_CFG_SPACE_SIZE
        seen: set[int] = set()
        while offset and offset not in seen:
            seen.add(offset)
            header = self.dword(offset)
            if header & EXTENDED_ID_MASK:
                found.setdefault(header & EXTENDED_ID_MASK, offset)
            offset = header >> EXTENDED_NEXT_SHIFT & ~3
        return found

    def _get(self, offset: int, size: int) -> int:
        return int.from_bytes(self.read(offset, size), "little")


def _find(chain: dict[int, int], number: int, what: str) -> int:
    if number not in chain:
        raise UsageError(
            f"the function has no {what} {number:#x}",
            seen=", ".join(f"{one:#x} at {offset:#x}" for one, offset in chain.items()) or "none",
        )
    return chain[number]
