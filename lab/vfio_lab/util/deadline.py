"""A monotonic deadline, created by the outermost caller and passed to every wait below it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vfio_lab.errors import DeadlineExceeded

T = TypeVar("T")
FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.05


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.remaining_s == 0.0


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
    pause_s = FIRST_PAUSE_S
    while True:
        seen = probe()
        if seen:
            return seen
        if deadline.passed:
            raise DeadlineExceeded(f"timed out waiting for {what}", seen=repr(seen))
        time.sleep(min(pause_s, deadline.remaining_s))
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
