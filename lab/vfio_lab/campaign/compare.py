"""What differs between runs of the same scenarios on several kernels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.campaign.runs import BAD

ABSENT = "not run"
# Random tokens, addresses and counts differ from one failure to the next.
VARYING = re.compile(r"[0-9a-f-]*\d[0-9a-f-]*")


@dataclass(frozen=True)
class Difference:
    """One scenario on several kernels.

    Args:
        nodeid: the scenario.
        claims: what it proves.
        records: how it ended on each kernel, None where it was not run.
    """

    nodeid: str
    claims: tuple[str, ...]
    records: tuple[Record | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the kernels behave differently, as far as this scenario can tell."""
        return len({_essence(record) for record in self.records}) > 1

    @property
    def worsened(self) -> bool:
        """Whether the last kernel breaks what the first one does not."""
        before, after = self.records[0], self.records[-1]
        was_bad = before is not None and before.outcome in BAD
        bad = after is not None and after.outcome in BAD and after.judged
        return bad and not was_bad


def rows(runs: Sequence[Results]) -> list[Difference]:
    """Return all scenarios of some runs side by side, in the order of their names."""
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


def told(record: Record | None) -> str:
    """Return how a scenario ended, and why, in one line."""
    if record is None:
        return ABSENT
    reason = " ".join(record.reason.removeprefix("AssertionError: ").split())
    return f"{record.outcome.value}: {reason}" if reason else record.outcome.value


def _claims(nodeid: str, by_run: Sequence[Mapping[str, Record]]) -> tuple[str, ...]:
    return next(records[nodeid].claims for records in by_run if nodeid in records)


def _essence(record: Record | None) -> tuple[Outcome | None, str]:
    """Return what must be equal; that two failures say different things matters too."""
    if record is None:
        return None, ""
    return record.outcome, VARYING.sub("", record.reason) if record.outcome in BAD else ""
