"""Behaviour that differs between two runs of the same scenarios: a row for each difference.

`behaviour.json` in the folder of a comparison is for programs; docs/behaviour.md describes it.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vfio_lab.campaign import compare
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import UsageError
from vfio_lab.evidence.deviations import Deviation, deviations
from vfio_lab.evidence.observed import Observed, read_observed
from vfio_lab.evidence.rules import left_out
from vfio_lab.util.files import write_whole

SCHEMA = 1  # raise it when a field changes its meaning or goes; new fields do no harm
BEHAVIOUR = "behaviour.json"
ARCHIVE = "observed.jsonl.gz"
LONGEST_VALUE = 160


@dataclass(frozen=True)
class BehaviourRow:
    """One difference, and where it shows.

    Args:
        deviation: what differs.
        scenarios: that show it, those first that end alike on both kernels.
        asserted_by: those of them that end differently, one of which may assert it.
        evidence: folders of the first scenario before and after, empty where none was kept.
    """

    deviation: Deviation
    scenarios: tuple[str, ...]
    asserted_by: tuple[str, ...]
    evidence: tuple[str, str]

    def __str__(self) -> str:
        """Return `VFIO_DEVICE_GET_INFO.num_irqs: 5 -> 6: 41 scenarios, first ...`."""
        count = len(self.scenarios)
        where = "1 scenario" if count == 1 else f"{count} scenarios, first"
        return f"{deviation_text(self.deviation)}: {where} {self.scenarios[0]}"


@dataclass(frozen=True)
class Comparison:
    """Behaviour on two kernels.

    Args:
        before: name of the first kernel.
        after: name of the second one.
        compared: how many scenarios left a record of it on both.
        rows: the differences, those that most scenarios show first.
    """

    before: str
    after: str
    compared: int
    rows: tuple[BehaviourRow, ...]

    @property
    def unasserted(self) -> tuple[BehaviourRow, ...]:
        """The differences that show only where scenarios end alike."""
        return tuple(row for row in self.rows if not row.asserted_by)


def compare_behaviour(before: Results, after: Results) -> Comparison:
    """Return what differs in the behaviour of two kernels, in scenarios that ran on both."""
    found: dict[Deviation, list[compare.Difference]] = {}
    compared = 0
    for scenario in compare.rows([before, after]):
        sides = [observed_of(record) for record in scenario.records]
        if sides[0] is not None and sides[1] is not None:
            compared += 1
            for one in deviations(sides[0], sides[1]):
                if left_out(scenario.nodeid, one.kind, one.subject):
                    continue
                found.setdefault(one, []).append(scenario)
    rows = [_row(one, scenarios) for one, scenarios in found.items()]
    rows.sort(key=lambda row: (-len(row.scenarios), row.deviation))
    return Comparison(before.kernel["name"], after.kernel["name"], compared, tuple(rows))


def compare_in_turn(found: Sequence[Results], where: Path) -> list[Comparison]:
    """Compare each kernel with the next, and write what differs into a folder."""
    steps = [compare_behaviour(*pair) for pair in itertools.pairwise(found)]
    write_comparisons(steps, where)
    return steps


def strict_exit_code(code: int, comparisons: Sequence[Comparison], *, strict: bool) -> int:
    """Return an exit code, or 1 in place of 0 if behaviour counts and differs unasserted.

    Args:
        code: what the scenarios' outcomes give.
        comparisons: of behaviour.
        strict: whether behaviour counts.
    """
    return code or int(strict and any(one.unasserted for one in comparisons))


def keep_observed(found: Results, folder: Path) -> None:
    """Write the behaviour of all scenarios of a run into one file, for when its evidence is gone.

    Args:
        found: the run.
        folder: where the file goes.
    """
    with gzip.open(folder / ARCHIVE, "wt") as file:
        for record in found.scenarios:
            if (seen := observed_of(record)) is not None:
                file.write(f"{json.dumps(record.nodeid)}\t{seen.to_json()}\n")


def comparison_text(comparison: Comparison) -> Iterator[str]:
    """Yield what a terminal shows: the differences that no scenario asserts, then the others."""
    pair = f"{comparison.before} -> {comparison.after}"
    shown = comparison.unasserted
    if shown:
        yield f"behaviour that changed and that no scenario asserts ({pair}):"
        yield from (f"  {row.deviation.id}  {row}" for row in shown)
    others = len(comparison.rows) - len(shown)
    yield (
        f"behaviour, {pair}: {comparison.compared} scenarios compared, {len(shown)} differences "
        f"that no scenario asserts, {others} in scenarios that end differently"
    )


def write_comparisons(comparisons: Sequence[Comparison], folder: Path) -> Path:
    """Write `behaviour.json` into a folder and return its path."""
    return write_whole(folder / BEHAVIOUR, comparisons_text(comparisons))


def comparisons_text(comparisons: Sequence[Comparison]) -> str:
    """Return comparisons as the text of a `behaviour.json`."""
    data = {"schema": SCHEMA, "comparisons": [_comparison_record(one) for one in comparisons]}
    return json.dumps(data, indent=1) + "\n"


def _comparison_record(comparison: Comparison) -> dict[str, Any]:
    return {
        "before": comparison.before,
        "after": comparison.after,
        "compared": comparison.compared,
        "rows": [_row_record(row) for row in comparison.rows],
    }


def read_comparisons(path: Path) -> tuple[Comparison, ...]:
    """Return the comparisons in a `behaviour.json`.

    Raises:
        UsageError: there are none, or of another schema.
    """
    try:
        data = json.loads(path.read_text())
        if data["schema"] == SCHEMA:
            return tuple(_comparison(one) for one in data["comparisons"])
        wrong = f"schema {data['schema']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = f"{type(error).__name__}: {error}"
    raise UsageError(
        f"{path} holds no comparison of behaviour",
        expected=f"a {BEHAVIOUR} of schema {SCHEMA}",
        seen=wrong,
        hint="`vfio-lab try`, `matrix` and `changes` write one into their evidence folder",
    )


def deviation_text(one: Deviation) -> str:
    """Return a difference in words on a line."""
    if one.kind == "log":
        return f"log line {_shown(one.before)} -> {_shown(one.after)}: {one.subject}"
    kind = "" if one.kind == "call" else f"{one.kind} "
    return f"{kind}{one.subject}: {_shown(one.before)} -> {_shown(one.after)}"


def _shown(value: str) -> str:
    text = " ".join(value.split()) or '""'
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _row(one: Deviation, scenarios: Sequence[compare.Difference]) -> BehaviourRow:
    ordered = sorted(scenarios, key=lambda each: each.differs)
    asserted = tuple(each.nodeid for each in ordered if each.differs)
    before, after = (_folder(record) for record in ordered[0].records)
    return BehaviourRow(one, tuple(each.nodeid for each in ordered), asserted, (before, after))


def _folder(record: Record | None) -> str:
    if record is None or record.run is None or not record.evidence:
        return ""
    folder = record.run / record.evidence
    return str(folder) if folder.is_dir() else ""


def observed_of(record: Record | None) -> Observed | None:
    """Return the behaviour that a scenario left, None where it was not put to the test."""
    if record is None or not record.judged or record.outcome is Outcome.SKIPPED:
        return None
    if record.run is None or not record.evidence:
        return None
    if (record.run / ARCHIVE).exists():
        return _archived(record.run / ARCHIVE).get(record.nodeid)
    return read_observed(record.run / record.evidence)


@functools.lru_cache(maxsize=4)
def _archived(path: Path) -> Mapping[str, Observed]:
    with gzip.open(path, "rt") as file:
        pairs = (line.split("\t", 1) for line in file)
        found = {json.loads(nodeid): Observed.from_json(text) for nodeid, text in pairs}
    return {nodeid: seen for nodeid, seen in found.items() if seen is not None}


def _row_record(row: BehaviourRow) -> dict[str, Any]:
    return {
        "id": row.deviation.id,
        **asdict(row.deviation),
        "text": deviation_text(row.deviation),
        "scenarios": row.scenarios,
        "asserted_by": row.asserted_by,
        "evidence": {"before": row.evidence[0], "after": row.evidence[1]},
    }


def _comparison(data: Mapping[str, Any]) -> Comparison:
    rows = tuple(
        BehaviourRow(
            Deviation(one["kind"], one["subject"], one["before"], one["after"]),
            tuple(one["scenarios"]),
            tuple(one["asserted_by"]),
            (one["evidence"]["before"], one["evidence"]["after"]),
        )
        for one in data["rows"]
    )
    return Comparison(data["before"], data["after"], data["compared"], rows)
