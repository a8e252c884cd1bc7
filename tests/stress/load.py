"""The catalogue beside busy processes, and with little memory: nothing differs from idle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stress import runs
from stress.table import Finding
from vfio_lab.util.deadline import Deadline, wait_until

HOGS = 16
WHOLE_FROM_S = 1800
ROUNDS = 3
EMPTY_WITHIN_S = 20.0
WORKERS = 4
WORKERS_IN_LITTLE_MEMORY = 2
LEAST_MEMORY = 3 << 30  # for four of the largest guests, which write to 700 MB each
CROWD = """
import os, sys
for _ in range(int(sys.argv[1]) - 1):
    if not os.fork():
        break
while True:
    pass
"""
GROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


def load(seconds: float) -> Finding:
    """Run scenarios idle, then beside a crowd, then with little memory, and compare all three."""
    chosen = ("scenarios",) if seconds >= WHOLE_FROM_S else runs.SAMPLE
    folder, began = Path(tempfile.mkdtemp(prefix="vfio-lab-stress-")), time.monotonic()
    idle = folder / "idle"
    _run(idle, chosen)
    wrong: list[str] = []
    beside = squeezed = noise = 0
    for number in range(ROUNDS):
        if number and time.monotonic() - began > seconds:
            break
        with _crowd():
            _run(busy := folder / f"busy-{number}", chosen)
        loaded, beside = [busy], beside + 1
        with _little_memory() as group:
            if group is not None:
                _run(little := folder / f"memory-{number}", chosen, group)
                loaded, squeezed = [busy, little], squeezed + 1
        for each in loaded:
            rows = runs.noise(idle, each)
            wrong += [*_wrong(idle, each), *rows]
            noise += len(rows)
    did = (
        f"{len(runs.records(idle))} scenarios idle, {beside} times beside {HOGS} busy processes, "
        f"{squeezed} times in {LEAST_MEMORY >> 20} MiB; {noise} differences of behaviour"
    )
    return Finding("load", time.monotonic() - began, did, tuple(wrong))


def _run(where: Path, chosen: tuple[str, ...], group: Path | None = None) -> None:
    workers = WORKERS if group is None else WORKERS_IN_LITTLE_MEMORY
    process = runs.start(where, *chosen, "-n", str(workers))
    if group is not None:
        (group / "cgroup.procs").write_text(str(process.pid))
    process.wait()


def _wrong(idle: Path, loaded: Path) -> list[str]:
    right, found = runs.records(idle), runs.records(loaded)
    lost = [f"{one.nodeid}: {one.reason[:200]}" for one in found.values() if not one.judged]
    return [*runs.differing(right, found), *runs.unnamed(right, found), *lost]


@contextmanager
def _crowd() -> Iterator[None]:
    # In a session of their own, as a build in another terminal: Linux shares by sessions.
    crowd = subprocess.Popen([sys.executable, "-c", CROWD, str(HOGS)], start_new_session=True)
    try:
        yield
    finally:
        os.killpg(crowd.pid, signal.SIGKILL)
        crowd.wait()


@contextmanager
def _little_memory() -> Iterator[Path | None]:
    """Give a cgroup that holds little memory, None where none can be made."""
    for parent, limit in GROUPS:
        group = parent / f"vfio-lab-stress-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(LEAST_MEMORY))
        except OSError:
            continue
        try:
            yield group
        finally:
            _await_empty(group / "cgroup.procs")
            group.rmdir()
        return
    yield None


def _await_empty(procs: Path) -> None:
    deadline = Deadline.after(EMPTY_WITHIN_S)
    wait_until(f"{procs} to be empty", lambda: not procs.read_text(), deadline)
