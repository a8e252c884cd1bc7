"""Runs of scenarios for the stress lane, and what they said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from stress.table import PROJECT
from vfio_lab.campaign import behaviour, results
from vfio_lab.campaign.results import Outcome, Record

SAMPLE = ("scenarios/vf_token/test_match.py",)
Records = dict[str, Record]


def start(
    where: Path, *words: str, env: Mapping[str, str] | None = None, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a run of scenarios; its output goes to a file beside its evidence, or another."""
    where.mkdir(parents=True, exist_ok=True)
    beside = log or where
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "--lab-artifacts", str(where), *words]
    with (beside.parent / f"{beside.name}.log").open("wb") as output:
        return subprocess.Popen(
            command, cwd=PROJECT, env={**plain, **(env or {})}, stdout=output, stderr=output
        )


def records(where: Path) -> Records:
    """Return what a run found, by node ID."""
    found: Records = {}
    for path in _results(where):
        found |= {one.nodeid: one for one in results.read_results(path.parent).scenarios}
    return found


def noise(before: Path, after: Path) -> list[str]:
    """Return what the kernel answered differently in two runs of the same scenarios."""
    sides = [results.read_results(path.parent) for path in _results(before, after)]
    if len(sides) != 2:
        return ["a run has no results"]
    return [f"noise: {row}" for row in behaviour.compare_behaviour(*sides).rows]


def differing(before: Records, after: Records) -> list[str]:
    """Return the verdicts of a run that are wrong: neither as before nor named as not judged."""
    wrong = []
    for nodeid, one in after.items():
        right = before[nodeid].outcome if nodeid in before else Outcome.PASSED
        if one.outcome is not right and one.outcome is not Outcome.ERROR:
            wrong.append(f"{nodeid}: {one.outcome.value}, not {right.value}: {one.reason[:200]}")
    return wrong


def unnamed(before: Records, after: Records) -> list[str]:
    """Return the scenarios of which a run says nothing at all, if it was not killed itself."""
    return [f"{nodeid}: neither a verdict nor a name" for nodeid in before if nodeid not in after]


def without_results(log: Path) -> bool:
    """Return whether a run said that its disk had no room for the results."""
    return f"not written: {results.RESULTS}" in log.read_text(errors="replace")


def unjudged(found: Records) -> int:
    """Return how many scenarios a run did not judge, and named."""
    return sum(one.outcome is Outcome.ERROR for one in found.values())


def _results(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.glob("*/results.json")]
