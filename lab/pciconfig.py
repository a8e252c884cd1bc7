"""Where the capabilities of a PCI function stand in its config space."""

from __future__ import annotations

from collections.abc import Callable

from lab.errors import AgentError

ReadConfig = Callable[[int, int], bytes]

CAP_POINTER = 0x34
CAP_ID_PM = 0x01
FIRST_EXTENDED = 0x100
EXT_CAP_ID_SRIOV = 0x10
# More than fit into either half of config space: a longer chain goes round.
LONGEST_CHAIN = 1024
DWORD_MASK = ~0x3


def capability(read: ReadConfig, wanted: int) -> int:
    """Return the offset of a capability, 0 if it is not there.

    Args:
        read: reads config space: offset and size in bytes.
        wanted: its ID, CAP_ID_*.

    Raises:
        AgentError: the chain goes round.
    """
    offset = read(CAP_POINTER, 1)[0] & DWORD_MASK
    for _ in range(LONGEST_CHAIN):
        if not offset:
            return 0
        found, following = read(offset, 2)
        if found == wanted:
            return offset
        offset = following & DWORD_MASK
    raise AgentError("the capabilities of a function form a ring", seen=f"at {offset:#x}")


def extended_capability(read: ReadConfig, wanted: int) -> int:
    """Return the offset of an extended capability, 0 if it is not there.

    Args:
        read: reads config space: offset and size in bytes.
        wanted: its ID, EXT_CAP_ID_*.

    Raises:
        AgentError: the chain goes round.
    """
    offset = FIRST_EXTENDED
    for _ in range(LONGEST_CHAIN):
        if not offset:
            return 0
        header = int.from_bytes(read(offset, 4), "little")
        if header & 0xFFFF == wanted:
            return offset
        offset = header >> 20 & DWORD_MASK
    raise AgentError("the extended capabilities of a function form a ring", seen=f"at {offset:#x}")
