"""Runs of the scenarios in a process of their own, and what they found."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.campaign import results
from vfio_lab.campaign.results import Outcome, Results
from vfio_lab.errors import (
    BuildError,
    HostError,
    LabError,
    UsageError,
)
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.spec.scenarios import FOLDER, PROJECT
from vfio_lab.util import host, progress
from vfio_lab.util.cache import Cache, digest, file_digest
from vfio_lab.util.process import pipeline

KIND = "verdicts"
KEPT = 32
FOLDERS_KEPT = 5
GUESTS_A_CORE = 2
MOST_JOBS = 16
# pytest -v, with workers: `[gw1] [ 42%] PASSED scenarios/...`.
PERCENT = re.compile(r"\[ *(\d+)%\]")
ENDED = re.compile(r"\[gw\d+\] \[ *\d+%\] ([A-Z]+) (.*?) *$")
WORDS = {
    "PASSED": Outcome.PASSED,
    "SKIPPED": Outcome.SKIPPED,
    "XFAIL": Outcome.KNOWN,
    "FAILED": Outcome.FAILED,
    "ERROR": Outcome.ERROR,
}
Heard = Callable[[str, Outcome], None]
SOURCES = ("scenarios", "fixtures", "lab", "images")
NOTHING_CHOSEN, USAGE = 5, 2
BAD = frozenset({Outcome.FAILED, Outcome.ERROR})


@dataclass(frozen=True)
class Choice:
    """Which scenarios to run, and how.

    Args:
        paths: files, folders or node IDs, relative to the project.
        expression: pytest's -k.
        options: further words for pytest.
        jobs: guests at a time.
    """

    paths: tuple[str, ...] = (FOLDER.name,)
    expression: str | None = None
    options: tuple[str, ...] = ()
    jobs: int = 2

    @property
    def words(self) -> list[str]:
        """What pytest is told."""
        chosen = [] if self.expression is None else ["-k", self.expression]
        spread = ["-n", str(self.jobs)] if self.jobs > 1 else []
        return [*self.paths, *chosen, *spread, *self.options]


def folder(artifacts: Path, what: str) -> Path:
    """Return a new folder for the evidence of some runs; the oldest of its kind go."""
    artifacts.mkdir(mode=0o700, parents=True, exist_ok=True)
    old = sorted(path for path in artifacts.glob(f"{what}-*") if path.is_dir())
    for path in old[: max(0, len(old) - FOLDERS_KEPT + 1)]:
        shutil.rmtree(path, ignore_errors=True)
    made = artifacts / f"{what}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    made.mkdir(mode=0o700)
    return made


def run_scenarios(
    kernel: str | Path,
    choice: Choice,
    where: Path,
    title: str,
    heard: Heard = lambda _nodeid, _outcome: None,
) -> Results:
    """Run scenarios on a kernel.

    Args:
        kernel: a packaged kernel's name or a path, as for --lab-kernel.
        choice: which scenarios.
        where: folder for the evidence and the log.
        title: what to call the step.
        heard: told of each scenario as it ends, by node ID and outcome; by workers only.

    Raises:
        UsageError: no scenario was chosen.
        HostError: this host cannot run them.
        BuildError: nothing could be judged.
    """
    log = where / "pytest.log"
    options = ["--lab-kernel", os.fspath(kernel), "--lab-artifacts", os.fspath(where)]
    command = [sys.executable, "-m", "pytest", "-v", *options, *choice.words]
    with progress.task(title, 100) as task:

        def follow(line: str) -> None:
            if (match := PERCENT.search(line)) is not None:
                task.update(int(match[1]))
            if (match := ENDED.match(line)) is not None and match[1] in WORDS:
                heard(match[2], WORDS[match[1]])

        codes = range(256)
        code = pipeline(
            "run scenarios", command, log=log, on_line=follow, cwd=PROJECT, accepted=codes
        )
    found = sorted(where.glob(f"*/{results.RESULTS}"))
    # Told to stop at the first failure, workers call it an interruption.
    judged = code in (0, 1) or (code == USAGE and "-x" in choice.options)
    if judged and found:
        return results.read_results(found[-1].parent)
    raise _failure(code, log)


def cached(kernel: Kernel, name: str | Path, choice: Choice, where: Path, cache: Cache) -> Results:
    """Run scenarios on a kernel unless the same ones were run on it before, and passed.

    Args:
        kernel: the kernel.
        name: what --lab-kernel calls it.
        choice: which scenarios.
        where: folder for the evidence and the log.
        cache: where verdicts are kept.
    """
    key = digest({"kernel": kernel.digest, "words": choice.words, "sources": sources()})[:16]
    if (entry := cache.find(KIND, key)) is not None:
        return results.read_results(entry)
    found = run_scenarios(name, choice, where, f"Running scenarios on kernel {kernel.name}")
    if not any(one.outcome in BAD for one in found.scenarios):
        with contextlib.suppress(HostError):  # a full disk: they are run again next time
            cache.obtain(KIND, key, lambda scratch: _keep(found, scratch))
            cache.prune(KIND, KEPT)
    return found


def sources() -> str:
    """Return a digest of all that decides what a scenario does."""
    files = [
        path
        for name in SOURCES
        for path in sorted((PROJECT / name).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return digest({str(path.relative_to(PROJECT)): file_digest(path) for path in files})


def jobs() -> int:
    """Return how many guests this host runs at a time: guests sleep about half their time."""
    return min(GUESTS_A_CORE * host.cores(), MOST_JOBS)


def _keep(found: Results, scratch: Path) -> None:
    found.write(scratch)


def _failure(code: int, log: Path) -> LabError:
    tail = log.read_text(errors="replace")
    if code == NOTHING_CHOSEN:
        return UsageError(
            "no scenario is chosen by that",
            seen="none collected",
            hint="see `pytest --collect-only -q`",
        )
    kind = HostError if code == USAGE else BuildError
    return kind("the scenarios could not be run", seen=f"exit code {code}", tail=tail, where=log)
