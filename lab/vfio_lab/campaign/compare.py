"""Compares runs of the same scenarios on several kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from vfio_lab.campaign.results import BAD, Outcome, Record, Results
from vfio_lab.errors import LabError

ABSENT = "not run"
SOUND, BROKEN, CANNOT_JUDGE = 0, 1, LabError.exit_code
# Random tokens, addresses and counts differ from one failure to the next.
VARYING = re.compile(r"[0-9a-f-]*\d[0-9a-f-]*")


@dataclass(frozen=True)
class Difference:
    """One scenario on several kernels.

    Args:
        nodeid: the scenario.
        claims: the claims that it proves.
        records: how it ended on each kernel, None where it was not run.
    """

    nodeid: str
    claims: tuple[str, ...]
    records: tuple[Record | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the scenario ended differently on the kernels."""
        return len({_essence(record) for record in self.records}) > 1

    @property
    def failed_before_too(self) -> bool:
        """Whether it fails on the first and on the last kernel, and so judges neither."""
        return all(_has_verdict(one) and one.outcome in BAD for one in self._ends)

    @property
    def judged(self) -> bool:
        """Whether the scenario judged the last kernel."""
        before, after = self._ends
        known = before is None or before.judged
        return known and _has_verdict(after) and not self.failed_before_too

    @property
    def _ends(self) -> tuple[Record | None, Record | None]:
        return self.records[0], self.records[-1]

    @property
    def worsened(self) -> bool:
        """Whether the scenario fails on the last kernel and not on the first."""
        before, after = self._ends
        was_bad = before is not None and before.outcome in BAD
        bad = after is not None and after.outcome in BAD and after.judged
        return bad and not was_bad


def rows(runs: Sequence[Results]) -> list[Difference]:
    """Return all scenarios of some runs side by side, sorted by name."""
    by_run: list[Mapping[str, Record]] = [
        {record.nodeid: record for record in run.scenarios} for run in runs
    ]
    nodeids = sorted({nodeid for records in by_run for nodeid in records})
    return [
        Difference(
            nodeid, _claims(nodeid, by_run), tuple(records.get(nodeid) for records in by_run)
        )
        for nodeid in nodeids
    ]


def exit_code(found: Sequence[Difference]) -> int:
    """Return 1 if a scenario got worse, 0 if none did and some were judged, else 125."""
    if any(one.worsened for one in found):
        return BROKEN
    return SOUND if any(one.judged for one in found) else CANNOT_JUDGE


def exit_code_of_all(found: Sequence[Difference]) -> int:
    """Return 1 if a scenario fails on any of the kernels, 0 if none does, 125 if none ran."""
    ran = [record.outcome for one in found for record in one.records if _has_verdict(record)]
    if not ran:
        return CANNOT_JUDGE
    return BROKEN if BAD.intersection(ran) else SOUND


def difference_tally(found: Sequence[Difference]) -> str:
    """Return the number of scenarios, of those that differ, and of those that were not judged."""
    parts = [f"{len(found)} scenarios", f"{sum(one.differs for one in found)} differ"]
    before_too = sum(one.failed_before_too for one in found)
    others = sum(not one.judged for one in found) - before_too
    parts += [f"{before_too} not judged: failed before too"] if before_too else []
    parts += [f"{others} not judged: skipped or not run"] if others else []
    return ", ".join(parts)


def told(record: Record | None) -> str:
    """Return how a scenario ended, and why, in one line, without the values that pytest adds."""
    if record is None:
        return ABSENT
    said, _, _ = record.reason.removeprefix("AssertionError: ").partition("\nassert ")
    reason = " ".join(said.split())
    return f"{record.outcome.value}: {reason}" if reason else record.outcome.value


def _has_verdict(record: Record | None) -> TypeGuard[Record]:
    """Return whether a scenario ran, and on a guest that the host did not lose."""
    return record is not None and record.judged and record.outcome is not Outcome.SKIPPED


def _claims(nodeid: str, by_run: Sequence[Mapping[str, Record]]) -> tuple[str, ...]:
    return next(records[nodeid].claims for records in by_run if nodeid in records)


def _essence(record: Record | None) -> tuple[Outcome | None, str]:
    """Return what two equal results have in common: the outcome, and what a failure says."""
    if record is None:
        return None, ""
    return record.outcome, VARYING.sub("", record.reason) if record.outcome in BAD else ""
