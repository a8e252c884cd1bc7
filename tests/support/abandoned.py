"""Folders in memory whose processes are gone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

MEMORY = Path("/dev/shm")


def abandoned() -> set[str]:
    """Return the names of the lab's folders in memory that nobody locks."""
    return {path.name for path in MEMORY.glob("vfio-lab*") if not _locked(path)}


def _locked(folder: Path) -> bool:
    try:
        fd = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return True  # deleted meanwhile, so it is not left
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
