"""What differs between the runs of a report, the worst first."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vfio_lab.campaign import compare
from vfio_lab.campaign.behaviour import BehaviourRow, compare_behaviour
from vfio_lab.campaign.results import BAD, Outcome
from vfio_lab.report.tolerant import printable
from vfio_lab.report.view import RunView, ScenarioView
from vfio_lab.util.cache import digest

ANCHOR_DIGITS = 10
MOST_EXAMPLES = 3
LONGEST_VALUE = 160
CONTEXT = 24
GOOD = frozenset({Outcome.PASSED, Outcome.KNOWN})
CHANGES = ("worse", "better", "other")


@dataclass(frozen=True)
class DifferingScenario:
    """A scenario that ended differently in some runs.

    Args:
        name: the scenario.
        sentence: what it shows.
        places: its view in each run.
        change: `worse`, `better` or `other`, from the first run to the last.
    """

    name: str
    sentence: str
    places: tuple[ScenarioView, ...]
    change: str

    @property
    def anchor(self) -> str:
        """Its name in URLs."""
        return f"d-{digest(self.name)[:ANCHOR_DIGITS]}"


@dataclass(frozen=True)
class DifferingBehaviour:
    """An answer of the kernel, or a line of its log, that differs between two runs.

    Args:
        row: what differs, and in which scenarios.
        shown_by: the first of these scenarios, with the views of both runs.
    """

    row: BehaviourRow
    shown_by: tuple[tuple[ScenarioView, ScenarioView], ...]

    @property
    def anchor(self) -> str:
        """Its name in URLs, the same in each report that shows it."""
        return f"b-{self.row.deviation.id}"

    @property
    def what(self) -> str:
        """The call with its field, the line of the log, the file or the register."""
        one = self.row.deviation
        kind = "" if one.kind == "call" else f"{one.kind} "
        return printable(f"{kind}{one.subject}")

    @property
    def values(self) -> tuple[str, str]:
        """What both runs have there; of long values the part around the first difference."""
        before, after = (
            printable(one) for one in (self.row.deviation.before, self.row.deviation.after)
        )
        equal = itertools.takewhile(
            lambda both: both[0] == both[1], zip(before, after, strict=False)
        )
        start = max(0, sum(1 for _ in equal) - CONTEXT)
        return _part(before, start), _part(after, start)


@dataclass(frozen=True)
class RunComparison:
    """What differs between runs.

    Args:
        scenarios: those that ended differently, the ones that got worse first.
        compared: the number of scenarios that all runs have.
        partly: names of scenarios that only some runs have, with the labels of these runs.
        behaviour: what differs between the first and the last run, what no scenario asserts first.
        observed: the number of scenarios whose behaviour both recorded.
    """

    scenarios: tuple[DifferingScenario, ...] = ()
    compared: int = 0
    partly: tuple[tuple[str, str], ...] = ()
    behaviour: tuple[DifferingBehaviour, ...] = ()
    observed: int = 0

    @property
    def size(self) -> int:
        """The number of differences."""
        return len(self.scenarios) + len(self.behaviour)


def compare_runs(runs: Sequence[RunView], scenarios: Sequence[ScenarioView]) -> RunComparison:
    """Return what differs between runs; nothing if there is one only."""
    if len(runs) == 1:
        return RunComparison()
    views = {(view.run, view.record.nodeid): view for view in scenarios}
    found, partly, compared = [], [], 0
    for row in compare.rows([run.results for run in runs]):
        places = [views.get((run.label, row.nodeid)) for run in runs]
        there = tuple(place for place in places if place is not None)
        if len(there) < len(runs):
            partly.append((there[0].name, ", ".join(place.run for place in there)))
            continue
        compared += 1
        if row.differs:
            one = there[-1]
            found.append(DifferingScenario(one.name, one.sentence, there, kind_of_change(row)))
    found.sort(key=lambda one: (CHANGES.index(one.change), one.name))
    behaviour = compare_behaviour(runs[0].results, runs[-1].results)
    rows = sorted(behaviour.rows, key=lambda row: bool(row.asserted_by))
    ends = runs[0].label, runs[-1].label
    differing = tuple(DifferingBehaviour(row, _shown_by(row, views, ends)) for row in rows)
    return RunComparison(tuple(found), compared, tuple(partly), differing, behaviour.compared)


def _shown_by(
    row: BehaviourRow, views: Mapping[tuple[str, str], ScenarioView], ends: tuple[str, str]
) -> tuple[tuple[ScenarioView, ScenarioView], ...]:
    first, last = ends
    return tuple(
        (views[first, nodeid], views[last, nodeid]) for nodeid in row.scenarios[:MOST_EXAMPLES]
    )


def _part(text: str, start: int) -> str:
    """Return a text that fits into a cell, from a position unless all of it fits."""
    if len(text) <= LONGEST_VALUE:
        return text
    end = start + LONGEST_VALUE
    return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"


def kind_of_change(row: compare.Difference) -> str:
    """Return how a scenario that all runs have changed from the first run to the last."""
    first, last = row.records[0], row.records[-1]
    if row.worsened:
        return "worse"
    mended = first and last and first.outcome in BAD and last.outcome in GOOD
    return "better" if mended else "other"
