"""The capability chains that INFO ioctls append to their structs."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from vfio_lab.errors import AgentError
from vfio_lab.uapi.vfio import vfio_info_cap_header


@dataclass(frozen=True)
class Capability:
    """One capability.

    Args:
        id: the capability's ID, as numbered by its INFO ioctl.
        version: the capability's version.
        data: all bytes from its header to the next capability or the end of the buffer.
    """

    id: int
    version: int
    data: bytes


def capabilities(info: bytes, first: int) -> tuple[Capability, ...]:
    """Walk the chain of an INFO buffer.

    Args:
        info: the whole buffer, including the struct.
        first: the struct's `cap_offset`; 0 means there is none.

    Raises:
        AgentError: the chain points outside the buffer or loops.
    """
    found: list[Capability] = []
    seen: set[int] = set()
    offset = first
    while offset:
        if offset in seen or offset + ctypes.sizeof(vfio_info_cap_header) > len(info):
            raise AgentError(
                "an INFO ioctl returned a broken capability chain",
                seen=f"offset {offset} after {sorted(seen)} in {len(info)} bytes",
            )
        seen.add(offset)
        header = vfio_info_cap_header.from_buffer_copy(info, offset)
        end = header.next if header.next > offset else len(info)
        found.append(Capability(header.id, header.version, info[offset:end]))
        offset = header.next
    return tuple(found)
