"""What a run may leave behind, and must not."""

from __future__ import annotations

import contextlib
from pathlib import Path


def qemus(folder: Path) -> list[int]:
    """Return the processes whose command lines name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # gone meanwhile
            words = path.read_bytes()
            if str(folder).encode() in words and b"qemu" in words:
                found.append(int(path.parent.name))
    return found


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def memory_kib() -> int:
    """Return this process's memory that is not shared."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0
