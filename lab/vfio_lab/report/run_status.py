"""The status of a run of scenarios, as a few lines at the bottom of a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from vfio_lab.campaign.results import Outcome
from vfio_lab.util.progress import duration

STYLES = {
    Outcome.PASSED: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.KNOWN: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.ERROR: "bold red",
}
# Below this fraction of the work, the last run's durations give the better estimate.
LEAST_DONE = 0.05
MOST_LINES = 8


@dataclass(frozen=True)
class Running:
    """A running scenario.

    Args:
        since: the start time, on the clock of `RunStatus`.
        topology: the guest's hardware; empty while there is no guest.
    """

    since: float
    topology: str = ""


class RunStatus:
    """Finished and running scenarios, and an estimate of the time left.

    Args:
        lasted: duration of each scenario's last run in seconds, by node ID.
        side_by_side: the number of scenarios that run at the same time.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        lasted: Mapping[str, float],
        side_by_side: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lasted = lasted
        self._side_by_side = side_by_side
        self._clock = clock
        self._began = clock()
        self._waiting: dict[str, None] = {}
        self._running: dict[str, Running] = {}
        self._outcomes: Counter[Outcome] = Counter()
        self._expected_done = 0.0

    def plan(self, nodeids: Iterable[str]) -> None:
        """Set the scenarios that will run, and start the clock."""
        self._waiting = dict.fromkeys(nodeids)
        self._began = self._clock()

    def begin(self, nodeid: str) -> None:
        """Record the start of a scenario."""
        self._waiting.pop(nodeid, None)
        self._running[nodeid] = Running(self._clock())

    def has_guest(self, nodeid: str, topology: str) -> None:
        """Record that the guest of a running scenario is up."""
        self._running[nodeid] = Running(self._running[nodeid].since, topology)

    def end(self, nodeid: str, outcome: Outcome) -> None:
        """Record the end of a scenario."""
        if self._running.pop(nodeid, None) is not None:
            self._outcomes[outcome] += 1
            self._expected_done += self._expected(nodeid)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left; None without data for an estimate."""
        # The display calls this from another thread, so read the changing dicts only once.
        todo = sum(map(self._expected, [*self._waiting, *self._running]))
        if self._expected_done > LEAST_DONE * (self._expected_done + todo):
            return (self._clock() - self._began) * todo / self._expected_done
        return todo / self._side_by_side if self._lasted else None

    def __rich__(self) -> Group:
        """Return the lines to draw."""
        running = dict(self._running)
        return Group(self._counts(), self._guests(running), self._current(running))

    def _expected(self, nodeid: str) -> float:
        if nodeid in self._lasted:
            return self._lasted[nodeid]
        return sum(self._lasted.values()) / len(self._lasted) if self._lasted else 1.0

    def _counts(self) -> Text:
        ended = self._outcomes.total()
        every = ended + len(self._waiting) + len(self._running)
        line = Text(f"{ended} of {every} scenarios")
        for outcome in Outcome:
            if count := self._outcomes[outcome]:
                line.append(f", {count} {outcome.value}", STYLES[outcome])
        return line

    def _guests(self, running: Mapping[str, Running]) -> Text:
        up = sum(bool(scenario.topology) for scenario in running.values())
        parts = [f"{up} guest{'' if up == 1 else 's'}", duration(self._clock() - self._began)]
        if (left := self.left_s) is not None:
            parts.append(f"about {duration(left)} left")
        return Text(", ".join(parts))

    def _current(self, running: Mapping[str, Running]) -> Text:
        now = self._clock()
        lines = [
            f"{duration(now - scenario.since):>8}  {scenario.topology or '-':<13} "
            f"{nodeid.removeprefix('scenarios/')}"
            for nodeid, scenario in list(running.items())[:MOST_LINES]
        ]
        return Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis")
