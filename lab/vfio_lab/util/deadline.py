"""A monotonic deadline, created by the outermost caller and passed to every wait below it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from vfio_lab.errors import DeadlineExceeded
from vfio_lab.util.host_time import LOOK_EVERY_S, LostTime, crowding, patience

T = TypeVar("T")
FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.05
CLOCK_FACTOR = 10
_WAITS = itertools.count(1)
_ATTEMPT: ContextVar[tuple[int, int] | None] = ContextVar("attempt", default=None)


@dataclass(frozen=True)
class Deadline:
    """A bound on the work of what is waited for, in seconds that the host gives.

    A wait that sleeps takes the clock's seconds. Where the host is too busy to let this process, or
    one that it started, go on, the bound moves away, up to `CLOCK_FACTOR` times as far. On a slow
    host it is further away from the beginning, see `patience`.

    Args:
        at: where it is on the monotonic clock if the host gives all of its time.
        began: when the wait began, on the same clock.
    """

    at: float
    began: float = field(default_factory=time.monotonic)
    lost: LostTime = field(default_factory=LostTime, compare=False, repr=False)

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline for work that takes `seconds` at most on the usual host, from now."""
        now = time.monotonic()
        return cls(now + seconds * patience(), now)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        moved = min(self.at + self.lost.look(), self._last)
        return max(0.0, moved - time.monotonic())

    @property
    def slice_s(self) -> float:
        """Seconds that a blocking call may take before the host is looked at again."""
        return min(self.remaining_s, LOOK_EVERY_S)

    @property
    def blocking_s(self) -> float:
        """Seconds that a call may take that cannot be interrupted, as crowded as the host is."""
        return min(self.remaining_s * crowding(), max(0.0, self._last - time.monotonic()))

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.remaining_s == 0.0

    @property
    def told(self) -> str:
        """Which bound it is, for errors: that of the work, or the clock far above it."""
        clock = time.monotonic() - self.began
        if time.monotonic() >= self._last:
            given = max(0.0, clock - self.lost.seconds)
            return f"{clock:.0f} s on the clock, of which the host gave {given:.1f} s"
        return f"{self.at - self.began:.3g} s of the host's time, {clock:.3g} s on the clock"

    @property
    def _last(self) -> float:
        return self.began + CLOCK_FACTOR * (self.at - self.began)


def stretched(seconds: float) -> float:
    """Return a bound for the guest's clock, which goes on where its QEMU does not."""
    return seconds * crowding() * patience()


def current_attempt() -> tuple[int, int] | None:
    """Return which wait is looking now, and how often it has looked before; None if none is."""
    return _ATTEMPT.get()


def wait_until(what: str, probe: Callable[[], T], deadline: Deadline) -> T:
    """Call `probe` until it returns a true value, and return that value.

    Use it only for states that no event announces.

    Args:
        what: the awaited state, for the error.
        probe: reads the state; it must be cheap.
        deadline: when to give up.

    Raises:
        DeadlineExceeded: with the last value that `probe` returned.
    """
    pause_s, wait, attempt = FIRST_PAUSE_S, next(_WAITS), 0
    while True:
        token = _ATTEMPT.set((wait, attempt))
        try:
            seen = probe()
        finally:
            _ATTEMPT.reset(token)
        if seen:
            return seen
        if deadline.passed:
            raise DeadlineExceeded(
                f"timed out waiting for {what}",
                expected=f"it within {deadline.told}",
                seen=repr(seen),
            )
        time.sleep(min(pause_s, deadline.remaining_s))
        pause_s, attempt = min(pause_s * 2, LONGEST_PAUSE_S), attempt + 1
