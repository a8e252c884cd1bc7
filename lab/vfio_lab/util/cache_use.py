"""Which processes use an entry of the cache: each locks its folder until it ends.

A time of last use alone would not do: when the clock jumps, what a run uses looks old.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_held: dict[tuple[int, int], int] = {}


def hold(entry: Path) -> None:
    """Lock an entry for this process until it ends, shared with others; once is enough."""
    with contextlib.suppress(OSError):  # it was removed, or its disk has no locks
        fd = os.open(entry, FOLDER)
        if _identity(fd) in _held:
            os.close(fd)
        else:
            _held[_identity(fd)] = fd
            fcntl.flock(fd, fcntl.LOCK_SH)


def in_use(entry: Path) -> bool:
    """Return whether another process holds an entry."""
    try:
        fd = os.open(entry, FOLDER)
    except OSError:
        return False
    own = _held.get(_identity(fd), fd)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # its disk has no locks
        return False
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(own, fcntl.LOCK_SH)  # also what failed has lost the former lock
        os.close(fd)
    return False


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
