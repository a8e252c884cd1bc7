"""Differences of behaviour that show again: what shows once may be chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vfio_lab.campaign import behaviour, runs
from vfio_lab.campaign.behaviour import Comparison
from vfio_lab.campaign.results import Results
from vfio_lab.campaign.runs import Choice

MOST_REPEATED = 12
ENOUGH_SCENARIOS = 3


def compare_twice(
    before: Results, after: Results, kernels: Mapping[str, str | Path], jobs: int, where: Path
) -> Comparison:
    """Return what differs; what few scenarios show must show again when they are repeated.

    Args:
        before: the run on the first kernel.
        after: the run on the second one.
        kernels: what `--lab-kernel` calls them, as `before` and `after`.
        jobs: guests at a time, at most.
        where: folder for the evidence of repeated scenarios.
    """
    compared = behaviour.compare_behaviour(before, after)
    doubtful = doubtful_scenarios(compared)
    if not doubtful or len(doubtful) > MOST_REPEATED:
        return compared
    again = [
        runs.run_scenarios(
            kernel, Choice(doubtful, jobs=jobs), where / f"{side}-again", f"Repeating {side}"
        )
        for side, kernel in kernels.items()
    ]
    return confirmed(compared, behaviour.compare_behaviour(*again))


def doubtful_scenarios(compared: Comparison) -> tuple[str, ...]:
    """Return a scenario for each difference that no scenario asserts and few show."""
    few = (row for row in compared.unasserted if len(row.scenarios) < ENOUGH_SCENARIOS)
    return tuple(dict.fromkeys(row.scenarios[0] for row in few))


def confirmed(compared: Comparison, again: Comparison) -> Comparison:
    """Return a comparison without what was doubtful and has not shown again."""
    seen = {row.deviation for row in again.rows}
    repeated = doubtful_scenarios(compared)
    rows = tuple(
        row
        for row in compared.rows
        if row.asserted_by
        or len(row.scenarios) >= ENOUGH_SCENARIOS
        or row.scenarios[0] not in repeated
        or row.deviation in seen
    )
    return replace(compared, rows=rows)
