"""Bisection: runs git bisect in a worktree of its own and repeats every bad verdict.

The user's tree, its HEAD and a bisection of their own are not touched: bisect refs belong to a
worktree, and this one is removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vfio_lab.campaign import runs, wanted_change
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.campaign.runs import Choice
from vfio_lab.errors import BuildError, LabError, UsageError
from vfio_lab.kernels import export, gittree
from vfio_lab.spec.scenarios import home
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.files import write_whole
from vfio_lab.util.process import pipeline
from vfio_lab.util.project import VARIABLE

LOG = logging.getLogger(__name__)
KIND = "bisect"
# git bisect run: 0 good, 125 skip, 1 to 127 bad, from 128 on it gives up.
GOOD, BAD, SKIP, ABORT = 0, 1, 125, 128
WORDS = {GOOD: "good", BAD: "bad", SKIP: "untestable", ABORT: "not reproducible"}
REPEATS = 2
# A guest that never booted says nothing about the scenario.
NO_GUEST = re.compile(
    r"(BootError|BuildError|LaunchError|HostError|UsageError|GuestKilled|GuestStopped|QemuCrashed)\b"
)
STEPS = re.compile(r"Bisecting: (\d+) revisions? left .*roughly (\d+) steps?")
CULPRIT = re.compile(r"^([0-9a-f]{40}) is the first bad commit", re.MULTILINE)
SUSPECTS = re.compile(r"^([0-9a-f]{40})$", re.MULTILINE)
SHORT = 12
COMMAND = [sys.executable, "-c", "from vfio_lab.cli import main; main()", "bisect-run"]


@dataclass(frozen=True)
class CommitVerdict:
    """The verdict on one commit.

    Args:
        commit: its hash, or `dirty` for a tree with edits.
        code: the exit code for git bisect run.
        reason: the reason, in one line.
        evidence: the folder of the runs.
    """

    commit: str
    code: int
    reason: str
    evidence: str

    def __str__(self) -> str:
        """Return the verdict in one line."""
        return f"{self.commit[:SHORT]} is {WORDS[self.code]}{self.reason and ': ' + self.reason}"


@dataclass(frozen=True)
class Culprit:
    """How a bisection ended.

    Args:
        commits: the first bad commit, or all candidates if some could not be judged.
        verdicts: of all commits that were tested.
        log: the log, for `git bisect replay`.
    """

    commits: tuple[str, ...]
    verdicts: dict[str, CommitVerdict]
    log: Path

    def both_sides(self, tree: Path) -> list[CommitVerdict]:
        """Return the verdicts of the nearest good commit and of the first bad one."""
        older = gittree.git(tree, "rev-list", f"{self.commits[0]}^").split()
        good = (self.verdicts.get(commit) for commit in older)
        bad = (self.verdicts.get(commit) for commit in self.commits)
        sides = (
            next((one for one in good if one and one.code == GOOD), None),
            next((one for one in bad if one and one.code == BAD), None),
        )
        return [one for one in sides if one is not None]


def choice(scenario: str) -> Choice:
    """Return the choice that a user means: a node ID, a file, or an expression for -k."""
    # A bisection looks for an expected disagreement, so it must count as a failure.
    options = ("--runxfail",)
    if "::" in scenario or scenario.endswith(".py"):
        return Choice(paths=(scenario,), options=options, jobs=1)
    return Choice(expression=scenario, options=options, jobs=runs.possible_jobs())


def judge_commit(tree: Path, scenarios: Choice, where: Path, cache: Cache) -> CommitVerdict:
    """Judge whether scenarios pass on a tree as it is now; repeat a bad verdict.

    Args:
        tree: the sources.
        scenarios: the scenarios that must pass.
        where: folder for the evidence.
        cache: where the kernel is built.
    """
    commit = gittree.git(tree, "rev-parse", "HEAD").strip()
    place = where / commit[:SHORT]
    try:
        kernel = export.ensure_tree_kernel(tree, cache)
        codes = []
        for number in range(1 + REPEATS):
            title = f"Running the scenario on {commit[:SHORT]}"
            found = runs.run_scenarios(kernel.bzimage.parent, scenarios, place / str(number), title)
            code, reason = _verdict(found, where)
            codes.append(code)
            if code != BAD:
                break
    except LabError as error:
        reason = " ".join(f"{error.what}: {error.seen or ''}".split())
        return CommitVerdict(commit, SKIP, reason, str(place))
    if len(set(codes)) > 1:
        said = ", ".join(WORDS[one] for one in codes)
        return CommitVerdict(commit, ABORT, f"of {len(codes)} runs: {said}", str(place))
    return CommitVerdict(commit, codes[0], reason, str(place))


def _verdict(found: Results, where: Path) -> tuple[int, str]:
    by_change = wanted_change.verdict_by_change(found, where)
    if by_change is None:
        return verdict(found)
    changed, reason = by_change
    return SKIP if changed is None else BAD if changed else GOOD, reason


def verdict(found: Results) -> tuple[int, str]:
    """Return the exit code for git bisect run, and the reason."""

    def first(*outcomes: Outcome) -> Record | None:
        return next((one for one in found.scenarios if one.outcome in outcomes), None)

    if (lost := first(Outcome.ERROR)) is not None and NO_GUEST.search(lost.reason):
        return SKIP, _line(lost.reason)
    if (broken := first(Outcome.FAILED, Outcome.ERROR)) is not None:
        return BAD, _line(broken.reason)
    if first(Outcome.PASSED) is None:
        skipped = first(Outcome.SKIPPED)
        return SKIP, _line(skipped.reason if skipped else "no scenario ran")
    return GOOD, ""


def find_culprit(
    ends: tuple[str, str], tree: Path, scenario: str, where: Path, cache: Cache
) -> Culprit:
    """Find the commit that broke a scenario.

    Args:
        ends: a good commit and a bad one.
        tree: a git checkout; it is not touched.
        scenario: the scenario, as for `choice`.
        where: folder for the evidence.
        cache: where kernels are built.

    Raises:
        UsageError: the tree is no git checkout, or an end has the other verdict.
        BuildError: an end cannot be judged, or a verdict is not reproducible.
    """
    good, bad = (_commit(tree, name) for name in ends)
    with _worktree(tree, bad, cache) as work:
        _check_ends(work, {good: GOOD, bad: BAD}, choice(scenario), where, cache)
        gittree.git(work, "bisect", "start", bad, good)
        log = where / "bisect.log"
        output = _drive(work, scenario, where)
        write_whole(log, gittree.git(work, "bisect", "log"))
        verdicts = read_verdicts(where)
        lost = next((one for one in verdicts.values() if one.code == ABORT), None)
        if lost is not None:
            raise BuildError(str(lost), where=Path(lost.evidence))
        culprits = CULPRIT.findall(output) or SUSPECTS.findall(output)
        if not culprits:
            raise BuildError("git bisect run gave up", tail=output, where=where)
        return Culprit(tuple(culprits), verdicts, log)


def write_verdict(given: CommitVerdict, where: Path) -> None:
    """Write a verdict to a file, for the process that drives the bisection."""
    folder = where / given.commit[:SHORT]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(folder / "verdict.json", json.dumps(asdict(given)))


def read_verdicts(where: Path) -> dict[str, CommitVerdict]:
    """Return the verdicts that were written to the file, by commit."""
    found = [CommitVerdict(**json.loads(path.read_text())) for path in where.glob("*/verdict.json")]
    return {one.commit: one for one in found}


def _commit(tree: Path, name: str) -> str:
    if not gittree.has_history(tree):
        raise UsageError(
            f"{tree} is no git checkout",
            expected="a .git",
            hint="name the top of a kernel's repository",
        )
    if not gittree.knows(tree, name):
        raise UsageError(f"{tree} has no commit {name}", expected="a commit, tag or branch")
    return gittree.git(tree, "rev-parse", f"{name}^{{commit}}").strip()


@contextlib.contextmanager
def _worktree(tree: Path, commit: str, cache: Cache) -> Iterator[Path]:
    """Check a commit out beside the user's tree; remove the checkout afterwards."""
    key = digest(str(tree.resolve()))[:16]
    work = cache.open().root / KIND / key / tree.resolve().name
    with cache.lock(KIND, key):
        _forget(tree, work)  # left by a bisection that was killed
        work.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with progress.task(f"Checking out {commit[:SHORT]}"):
                gittree.git(tree, "worktree", "add", "--detach", str(work), commit)
            yield work
        finally:
            _forget(tree, work)


def _forget(tree: Path, work: Path) -> None:
    shutil.rmtree(work.parent, ignore_errors=True)
    gittree.git(tree, "worktree", "prune")


def _check_ends(
    work: Path, ends: dict[str, int], scenarios: Choice, where: Path, cache: Cache
) -> None:
    for commit, expected in ends.items():
        gittree.git(work, "checkout", "--quiet", "--detach", commit)
        found = judge_commit(work, scenarios, where, cache)
        write_verdict(found, where)
        LOG.info("%s", found)
        if found.code in (SKIP, ABORT):
            raise BuildError(str(found), where=Path(found.evidence))
        if found.code != expected:
            raise UsageError(
                f"the {WORDS[expected]} end is {WORDS[found.code]}",
                expected=f"{commit[:SHORT]} to be {WORDS[expected]}",
                seen=found.reason or "the scenario passes",
                hint="swap them, or choose others; the evidence is in " + found.evidence,
            )


def _drive(work: Path, scenario: str, where: Path) -> str:
    """Run this program from git bisect and return git's output."""
    command: Sequence[str] = [*COMMAND, "--evidence", str(where), scenario]
    told = set(read_verdicts(where))
    with progress.task("Bisecting") as task:
        step = 0

        def follow(line: str) -> None:
            nonlocal step
            if (match := STEPS.match(line)) is not None:
                step += 1
                total = step + int(match[2])
                task.update(step - 1, total)
                _tell_new(where, told)
                LOG.info("step %d of about %d", step, total)

        # git has printed the first step at the start of the bisection.
        log = where / "git.log"
        pipeline(
            "bisect",
            ["git", "-C", str(work), *gittree.HARMLESS, "bisect", "run", *command],
            log=log,
            on_line=follow,
            env=gittree.quiet(work) | {VARIABLE: os.fspath(home()[0])},
            accepted=range(256),
        )
        _tell_new(where, told)
    return log.read_text(errors="replace")


def _tell_new(where: Path, told: set[str]) -> None:
    """Log the verdicts that have been written since the last call."""
    for commit, found in read_verdicts(where).items():
        if commit not in told:
            told.add(commit)
            LOG.info("%s", found)


def _line(reason: str) -> str:
    return " ".join(reason.removeprefix("AssertionError: ").split())
