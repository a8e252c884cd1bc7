"""A tried series as a check for `b4 review`.

Source: b4, review/checks.py, _run_external_cmd(): a mail on standard input, an array of objects
with `tool`, `status`, `summary`, `url` and `details` on standard output. b4 shows `details` that
are a JSON list as findings, each with a `status` and a `description`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from vfio_lab.campaign import compare
from vfio_lab.campaign.compare import Difference
from vfio_lab.campaign.series_trial import SeriesTrial
from vfio_lab.errors import LabError

TOOL = "vfio-lab"
PASS, WARN, FAIL = "pass", "warn", "fail"
STATUS = {compare.SOUND: PASS, compare.BROKEN: FAIL, compare.CANNOT_JUDGE: WARN}
CheckResult = dict[str, str]


def check_result(tried: SeriesTrial) -> CheckResult:
    """Return the verdict: it fails if a scenario got worse, and warns if none could judge."""
    rows = tried.rows
    shown = [row for row in rows if row.differs or row.failed_before_too]
    return {
        "tool": TOOL,
        "status": STATUS[compare.exit_code(rows)],
        "summary": f"{compare.difference_tally(rows)}, on {tried.base}",
        "url": tried.where.absolute().as_uri(),
        "details": json.dumps(list(_findings(shown))) if shown else "",
    }


def error_result(error: LabError) -> CheckResult:
    """Return a warning: what stopped the lab may be the host or the base, not the series."""
    summary = " ".join(f"cannot judge: {error.what}".split())
    return {"tool": TOOL, "status": WARN, "summary": summary, "url": "", "details": str(error)}


def _findings(rows: Sequence[Difference]) -> Iterator[dict[str, str]]:
    for row in rows:
        before, after = (compare.told(record) for record in row.records)
        status = FAIL if row.worsened else WARN
        text = f"{row.nodeid} ({', '.join(row.claims)}): before {before}; after {after}"
        yield {"status": status, "description": text}
