"""What the host gives to this process and to those it started: time on a core, or none.

Source: Documentation/scheduler/sched-stats.rst (/proc/PID/schedstat: nanoseconds on a core, and
nanoseconds ready to run without one); Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vfio_lab.errors import UsageError

PROC = Path("/proc")
LOOK_EVERY_S = 0.25
STALLED_S = 8.0
MOST_CROWDED = 10.0
PRESSURE = ("memory", "io")
# A number, how many times longer than usual this host takes: `--lab-patience` sets it.
PATIENCE = "VFIO_LAB_PATIENCE"
ROUNDS, STEPS = 5, 4_000
# A core of a server of 2020 takes 0.5 ms for the steps; deadlines bear half its speed.
USUAL_S = 0.001
MOST_PATIENT = 60.0
Reading = dict[str, tuple[int, int]]


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants that are there."""
    yield pid
    for children in (PROC / str(pid) / "task").glob("*/children"):
        for child in _text(children).split():
            yield from family(int(child))


def thread_times(pids: Iterator[int]) -> Reading:
    """Return what each thread of some processes had of a core, and waited for one, in ns."""
    found: Reading = {}
    for pid in pids:
        for path in (PROC / str(pid) / "task").glob("*/schedstat"):
            ran, waited, *_ = (*map(int, _text(path).split()), 0, 0)
            found[path.parent.name] = (ran, waited)
    return found


def crowding() -> float:
    """Return how many runnable threads there are for each core, 1 at least."""
    load = os.getloadavg()[0] / len(os.sched_getaffinity(0))
    return min(max(load, 1.0), MOST_CROWDED)


@functools.cache
def patience() -> float:
    """Return how many times longer than usual this host takes for the same work, 1 at least.

    It is measured once in each process, in CPU time, unless the environment says it.

    Raises:
        UsageError: the environment says something else than a number of 1 or more.
    """
    given = os.environ.get(PATIENCE)
    if given is None:
        return min(max(_work_s() / USUAL_S, 1.0), MOST_PATIENT)
    try:
        said = float(given)
    except ValueError:
        said = 0.0
    if not 1.0 <= said <= MOST_PATIENT:
        raise UsageError(
            "patience is no number that deadlines can be multiplied by",
            expected=f"1 to {MOST_PATIENT:g}, by --lab-patience or {PATIENCE}",
            seen=given,
        )
    return said


def set_patience(factor: str) -> None:
    """Set it for this process and those that it starts, whatever was measured.

    Raises:
        UsageError: it is no number of 1 or more.
    """
    os.environ[PATIENCE] = factor
    patience.cache_clear()
    patience()


def _work_s() -> float:
    """Return the seconds on a core that some work of the interpreter takes."""
    times = []
    for _ in range(ROUNDS):
        began, seen, last = time.thread_time(), {}, 0
        for step in range(STEPS):
            last = (last * 31 + step) & 0xFFFFFFFF
            seen[last & 1023] = step
        times.append(time.thread_time() - began)
    return statistics.median(times)


@dataclass
class LostTime:
    """The seconds in which the host did not let us go on, since this object was made.

    A thread that is ready to run waited for a core, or all of the host waited for memory or a
    disk. Of several threads the one that waited most counts, since one waits for the other.

    Args:
        pid: whose family is meant, this process's by default.
    """

    pid: int = field(default_factory=os.getpid)
    seconds: float = 0.0
    _looked_at: float = field(default_factory=time.monotonic)
    _threads: Reading | None = None
    _stalled_us: int = 0

    def look(self) -> float:
        """Return the seconds lost so far; looks at the host now and then, and never at once."""
        now = time.monotonic()
        elapsed = now - self._looked_at
        if elapsed < LOOK_EVERY_S:
            return self.seconds
        threads, stalled_us = thread_times(family(self.pid)), _stalled_us()
        if self._threads is not None:
            waits = (
                waited - self._threads.get(thread, (0, 0))[1]
                for thread, (_, waited) in threads.items()
            )
            lost = max(waits, default=0) / 1e9 + (stalled_us - self._stalled_us) / 1e6
            self.seconds += min(max(lost, 0.0), elapsed)
        self._threads, self._stalled_us, self._looked_at = threads, stalled_us, now
        return self.seconds


@dataclass
class Progress:
    """Whether a process moves at all.

    Args:
        pid: the process; its descendants count.
    """

    pid: int
    _seen: Reading = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    @property
    def stopped(self) -> bool:
        """Whether a signal or a debugger has stopped it."""
        return any(_state(pid) in "Tt" for pid in family(self.pid))

    def stalled(self) -> bool:
        """Whether no thread had or wanted a core for so long that none will.

        Even an idle guest's QEMU runs several times a second, for the guest's timers.
        """
        threads, now = thread_times(family(self.pid)), time.monotonic()
        if threads != self._seen:
            self._seen, self._since = threads, now
        return now - self._since > stalled_s()


def stalled_s() -> float:
    """Return after how many seconds without a core a process will not go on."""
    return STALLED_S * patience()


def _state(pid: int) -> str:
    return _text(PROC / str(pid) / "stat").rpartition(")")[2].strip()[:1] or "X"


def _stalled_us() -> int:
    total = 0
    for name in PRESSURE:
        for line in _text(PROC / "pressure" / name).splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "full":
                total += int(rest.rpartition("total=")[2])
    return total


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended, or this kernel does not say
        return ""
