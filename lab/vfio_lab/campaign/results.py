"""Results: a record for each scenario of a run, and the last verdict of each scenario.

`results.json` in a run's folder is for programs; docs/results.md describes it. `verdicts.json`
beside the runs stays when they are deleted, since many runs are of a few scenarios only.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import filelock

from vfio_lab.errors import UsageError
from vfio_lab.util.files import write_whole

SCHEMA = 2  # increase it when a field changes its meaning or goes; new fields do no harm
VERDICTS_SCHEMA = 1
RESULTS = "results.json"
VERDICTS = "verdicts.json"


class Outcome(enum.Enum):
    """How a scenario ended, the worst last."""

    PASSED = "passed"
    SKIPPED = "skipped"
    KNOWN = "known"
    FAILED = "failed"
    ERROR = "error"

    @property
    def weight(self) -> int:
        """Its place in the order from good to bad."""
        return list(Outcome).index(self)


BAD = frozenset({Outcome.FAILED, Outcome.ERROR})


def phase_outcome(when: str, word: str, *, xfailed: bool) -> Outcome:
    """Return the outcome of a scenario's phase from pytest's report.

    Args:
        when: the phase: `setup`, `call`, `teardown`; another word if a worker was lost.
        word: `passed`, `failed` or `skipped`.
        xfailed: whether the scenario was expected to fail.
    """
    if word == "failed":
        return Outcome.FAILED if when == "call" else Outcome.ERROR
    if word == "skipped":
        return Outcome.KNOWN if xfailed else Outcome.SKIPPED
    return Outcome.PASSED


@dataclass(frozen=True)
class Record:
    """How one scenario ended.

    Args:
        nodeid: pytest's name of it, parameters included.
        claims: IDs of the claims that it proves.
        topology: the hardware it ran on, empty if it had no guest.
        outcome: `known` is a claim that this kernel is expected to break, and does.
        reason: what is wrong, missing or known; empty if it passed.
        seconds: the duration of set-up, call and teardown together.
        evidence: its evidence folder, relative to the run's; empty if it had no guest.
        started: when its set-up began, seconds since the epoch.
        missing: why its evidence is incomplete, empty if it is complete.
        lost: how its first guest was lost to the host, before it was run again; else empty.
        run: the run's folder, if it was read from there; it is not written down.
    """

    nodeid: str
    claims: tuple[str, ...]
    topology: str
    outcome: Outcome
    reason: str
    seconds: float
    evidence: str
    started: float = 0.0
    missing: str = ""
    lost: str = ""
    run: Path | None = field(default=None, compare=False)

    @property
    def judged(self) -> bool:
        """Whether the outcome says anything about the kernel."""
        return not (self.outcome is Outcome.ERROR and self.lost)


@dataclass(frozen=True)
class Results:
    """The results of one run.

    Args:
        kernel: its description by `vfio_lab.kernels.provenance`.
        host: `qemu` version and `accelerator`.
        started: seconds since the epoch.
        seconds: how long it took.
        exit_code: pytest's.
        scenarios: the records, in the order in which the scenarios ended.
        command: the command that repeats the run in the project's folder.
    """

    kernel: Mapping[str, Any]
    host: Mapping[str, str]
    started: float
    seconds: float
    exit_code: int
    scenarios: tuple[Record, ...]
    command: str = ""

    def write(self, folder: Path) -> Path:
        """Write `results.json` to a run's folder atomically; return its path."""
        scenarios = [_plain(one) for one in self.scenarios]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lost = [one.nodeid for one in self.scenarios if one.lost]
        data = {**asdict(self), "lost": lost, "scenarios": scenarios}
        return _write(folder / RESULTS, {"schema": SCHEMA, **data})


def read_results(folder: Path, name: str = RESULTS) -> Results:
    """Read the results of a run.

    Args:
        folder: the run's folder.
        name: the file's name; a report has files of several runs.

    Raises:
        UsageError: there are none, or they have another schema.
    """
    data = _read(folder / name, SCHEMA)
    wrong = "there is none"
    if data is not None:
        try:
            return _results(data, folder)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            wrong = f"{type(error).__name__}: {error}"
    raise UsageError(
        f"{folder} holds no {name} of schema {SCHEMA}",
        expected="a run's folder",
        seen=wrong,
        hint="name the folder of a run, such as the newest in .artifacts/",
    )


def _results(data: Mapping[str, Any], folder: Path) -> Results:
    """Return the results in a file; ignore fields that a later version has added."""
    names = {one.name for one in fields(Results)}
    known = {name: value for name, value in data.items() if name in names}
    return Results(
        **{**known, "scenarios": tuple(_record(one, folder) for one in data["scenarios"])}
    )


def _plain(record: Record) -> dict[str, Any]:
    data = {**asdict(record), "outcome": record.outcome.value}
    del data["run"]
    return data


def _record(data: Mapping[str, Any], folder: Path) -> Record:
    names = {one.name for one in fields(Record)}
    known = {name: value for name, value in data.items() if name in names}
    changed = {"claims": tuple(data["claims"]), "outcome": Outcome(data["outcome"])}
    changed["run"] = folder
    return Record(**{**known, **changed})


def remember(artifacts: Path, results: Results) -> None:
    """Record each scenario's verdict as its last one on that kernel.

    Args:
        artifacts: the folder of all runs' folders.
        results: the results of the run that ended.
    """
    path = artifacts / VERDICTS
    with filelock.FileLock(artifacts / f".{VERDICTS}.lock", mode=0o600):
        kernels = last_verdicts(artifacts)
        mine = kernels.setdefault(results.kernel["name"], {})
        mine.update({one.nodeid: one.outcome for one in results.scenarios})
        plain = {
            name: {nodeid: outcome.value for nodeid, outcome in found.items()}
            for name, found in kernels.items()
        }
        _write(path, {"schema": VERDICTS_SCHEMA, "kernels": plain})


def last_verdicts(artifacts: Path) -> dict[str, dict[str, Outcome]]:
    """Return the last verdict of each scenario, by kernel and node ID."""
    data = _read(artifacts / VERDICTS, VERDICTS_SCHEMA) or {"kernels": {}}
    return {
        kernel: {nodeid: Outcome(outcome) for nodeid, outcome in found.items()}
        for kernel, found in data["kernels"].items()
    }


def durations(artifacts: Path) -> dict[str, float]:
    """Return the seconds that each scenario took in its last run that is kept.

    Args:
        artifacts: the folder of all runs' folders.
    """
    lasted: dict[str, float] = {}
    for path in sorted(artifacts.glob(f"*/{RESULTS}")):
        with contextlib.suppress(UsageError):
            lasted |= {one.nodeid: one.seconds for one in read_results(path.parent).scenarios}
    return lasted


def worst(outcomes: Iterable[Outcome]) -> Outcome | None:
    """Return the worst outcome, None if there is none."""
    return max(outcomes, key=lambda one: one.weight, default=None)


def outcome_of_claim(outcomes: Iterable[Outcome]) -> Outcome | None:
    """Return the worst outcome of a claim's scenarios; skipped only if all of them were.

    Args:
        outcomes: those of its scenarios on one kernel.
    """
    found = list(outcomes)
    return worst(one for one in found if one is not Outcome.SKIPPED) or worst(found)


def _read(path: Path, schema: int) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    known = isinstance(data, dict) and data.pop("schema", None) == schema
    return data if known else None


def _write(path: Path, data: Mapping[str, Any]) -> Path:
    return write_whole(path, json.dumps(data, indent=1) + "\n")
