"""Old system calls, and the newer ones that an architecture has in their place."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from vfio_lab.arch import Architecture
from vfio_lab.client.call import Buffer
from vfio_lab.uapi.syscalls import AT_FDCWD

Argument = int | Buffer
MS = 1_000


def _access(path: Argument, mode: Argument) -> tuple[str, tuple[Argument, ...]]:
    return "faccessat", (AT_FDCWD, path, mode)


def _chown(path: Argument, owner: Argument, group: Argument) -> tuple[str, tuple[Argument, ...]]:
    return "fchownat", (AT_FDCWD, path, owner, group, 0)


def _poll(fds: Argument, count: Argument, timeout: Argument) -> tuple[str, tuple[Argument, ...]]:
    assert isinstance(timeout, int)
    seconds, ms = divmod(timeout, MS)
    wait = 0 if timeout < 0 else Buffer(struct.pack("<qq", seconds, ms * 1_000_000))
    return "ppoll", (fds, count, wait, 0, 0)


Newer = Callable[..., tuple[str, tuple[Argument, ...]]]
NEWER: Mapping[str, Newer] = MappingProxyType({"access": _access, "chown": _chown, "poll": _poll})


def spell(
    architecture: Architecture, call: str, args: tuple[Argument, ...]
) -> tuple[int, tuple[Argument, ...]]:
    """Return the number and the arguments of a system call on an architecture.

    Args:
        architecture: the architecture of the caller.
        call: the call's name, on any architecture.
        args: its arguments.

    Raises:
        UsageError: the architecture has neither the call nor a newer one for it.
    """
    if call in NEWER and call not in architecture.syscalls:
        call, args = NEWER[call](*args)
    return architecture.syscall(call), args
