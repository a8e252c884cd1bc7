"""How long evidence is kept, by age and by size.

Runs older than two weeks are deleted, then the oldest ones until the rest fits in 1 GiB. Each kind
of run is counted by itself, so `vfio-lab try` does not push out the evidence of pytest. A run stays
if it was written or named within the last hour, or if the process that made it still runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

RUN = re.compile(r"(?:(?P<kind>.+)-)?\d{8}-\d{6}-(?P<pid>\d+)")
RECENT_S = 3600
KEPT_S = 14 * 24 * 3600
KEPT_BYTES = 1 << 30


def run_name(kind: str = "") -> str:
    """Return a name for a new run: its kind, the time, and the process that owns it."""
    return f"{kind and kind + '-'}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def new_run_folder(folder: Path, kind: str) -> Path:
    """Make a folder for the evidence of a new run of that kind."""
    made = folder / run_name(kind)
    made.mkdir(mode=0o700, parents=True)
    return made


def mark_as_named(run: Path) -> None:
    """Record that a command has just named a run, so that it stays for another hour."""
    with contextlib.suppress(OSError):
        os.utime(run)


def delete_old_runs(folder: Path, now: float | None = None) -> list[Path]:
    """Delete the runs in a folder that are too old or too many, and return them.

    Args:
        folder: the folder of all runs; other files in it stay.
        now: seconds since the epoch, for tests.
    """
    now = time.time() if now is None else now
    kinds: defaultdict[str, list[tuple[float, Path]]] = defaultdict(list)
    for path in folder.glob("*"):
        if path.is_dir() and (match := RUN.fullmatch(path.name)) and not _runs(int(match["pid"])):
            kinds[match["kind"] or ""].append((path.stat().st_mtime, path))
    old = [path for runs in kinds.values() for path in _surplus(sorted(runs, reverse=True), now)]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return old


def deletions_text(deleted: list[Path]) -> str:
    """Return the message about runs that were deleted."""
    names = ", ".join(path.name for path in deleted)
    return f"deleted old evidence in {deleted[0].parent}: {names}" if deleted else ""


def _surplus(runs: list[tuple[float, Path]], now: float) -> Iterator[Path]:
    """Yield the runs of one kind to delete; `runs` has the newest first."""
    total = 0
    for used, path in runs:
        total += _size(path)
        if used < now - RECENT_S and (used < now - KEPT_S or total > KEPT_BYTES):
            yield path


def _size(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - many files
        for place, _folders, names in os.walk(folder)
        for name in names
    )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OverflowError, PermissionError):
        pass
    return True
