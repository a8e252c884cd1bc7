"""Bisection: runs git bisect in a checkout of the lab's own and repeats every bad verdict.

The user's repository is only read: its HEAD, and a bisection of their own, are not touched.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vfio_lab.campaign import runs, wanted_change
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.campaign.runs import Choice
from vfio_lab.errors import BuildError, LabError, UsageError
from vfio_lab.kernels import checkout, export, gittree, kconfig
from vfio_lab.spec.scenarios import home
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache
from vfio_lab.util.files import write_whole
from vfio_lab.util.process import pipeline
from vfio_lab.util.project import VARIABLE

LOG = logging.getLogger(__name__)
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
IDENTITY = ("-c", "user.name=vfio-lab", "-c", "user.email=vfio-lab@localhost")
COMMAND = [sys.executable, "-c", "from vfio_lab.cli import main; main()", "bisect-run"]


@dataclass(frozen=True)
class Question:
    """The question that each commit answers.

    Args:
        scenario: a node ID, a file, or words for -k.
        config: a fragment of the kernel's configuration, None if the lab's own will do.
        change: the difference of behaviour that is looked for, in a line; empty if the scenario's
            own verdict counts.
    """

    scenario: str
    config: Path | None = None
    change: str = ""

    @property
    def choice(self) -> Choice:
        """The scenarios that must pass."""
        # A bisection looks for an expected disagreement, so it must count as a failure.
        options = ("--runxfail",)
        if "::" in self.scenario or self.scenario.endswith(".py"):
            return Choice(paths=(self.scenario,), options=options, jobs=1)
        return Choice(expression=self.scenario, options=options, jobs=runs.possible_jobs())

    @property
    def words(self) -> list[str]:
        """The arguments of `vfio-lab bisect-run`."""
        config = [] if self.config is None else ["--config", os.fspath(self.config.resolve())]
        return [*config, self.scenario]

    def check(self) -> None:
        """Check what can be checked before anything is built.

        Raises:
            UsageError: there is no such scenario, or the fragment cannot be read.
        """
        # Which parameters a scenario has may depend on the kernel.
        whole = replace(self, scenario=self.scenario.partition("[")[0])
        runs.chosen_scenarios((whole if "::" in self.scenario else self).choice)
        self.options()

    def options(self) -> tuple[kconfig.Option, ...]:
        """Return the options of the fragment.

        Raises:
            UsageError: the fragment has a line that is no configuration.
        """
        return () if self.config is None else kconfig.read_fragment(self.config)


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
        ends: the good commit and the bad one that it started from.
        log: the log, for `git bisect replay`.
        revert: whether the scenario holds on the bad end without the first bad commit; None if
            that commit does not revert there, or is not known.
    """

    commits: tuple[str, ...]
    verdicts: dict[str, CommitVerdict]
    ends: tuple[str, str]
    log: Path
    revert: CommitVerdict | None = None

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


def judge_commit(tree: Path, question: Question, where: Path, cache: Cache) -> CommitVerdict:
    """Judge whether scenarios pass on a tree as it is now; repeat a bad verdict.

    Args:
        tree: the sources.
        question: the scenarios that must pass.
        where: folder for the evidence.
        cache: where the kernel is built.
    """
    commit = gittree.git(tree, "rev-parse", "HEAD").strip()
    place = where / commit[:SHORT]
    try:
        kernel = export.ensure_tree_kernel(tree, cache, question.options())
        codes = []
        for number in range(1 + REPEATS):
            title = f"Running the scenario on {commit[:SHORT]}"
            found = runs.run_scenarios(
                kernel.bzimage.parent, question.choice, place / str(number), title
            )
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
    ends: tuple[str, str], tree: Path, question: Question, where: Path, cache: Cache
) -> Culprit:
    """Find the commit that broke a scenario.

    Args:
        ends: a good commit and a bad one.
        tree: a folder in a git repository, which is not touched.
        question: the scenario.
        where: folder for the evidence.
        cache: where kernels are built.

    Raises:
        UsageError: it is no git checkout, or an end has the other verdict.
        BuildError: an end cannot be judged, or a verdict is not reproducible.
    """
    repository = gittree.find_repository(tree)
    if repository is None:
        raise UsageError(
            f"{tree} is no git checkout",
            expected="a .git",
            hint="name the top of a kernel's repository",
        )
    question.options()  # a fragment that cannot be read is said before anything is built
    good, bad = (gittree.commit_hash(repository, name) for name in ends)
    with _checkout(repository, cache) as work:
        _check_ends(work, {good: GOOD, bad: BAD}, question, where, cache)
        gittree.git(work, "bisect", "start", bad, good)
        log = where / "bisect.log"
        output = _drive(work, question, where)
        write_whole(log, gittree.git(work, "bisect", "log"))
        verdicts = read_verdicts(where)
        lost = next((one for one in verdicts.values() if one.code == ABORT), None)
        if lost is not None:
            raise BuildError(str(lost), where=Path(lost.evidence))
        culprits = tuple(CULPRIT.findall(output) or SUSPECTS.findall(output))
        if not culprits:
            raise BuildError("git bisect run gave up", tail=output, where=where)
        found = Culprit(culprits, verdicts, (good, bad), log)
        if len(culprits) > 1 or not revert(work, culprits[0], bad):
            return found
        return replace(found, revert=judge_commit(work, question, where, cache))


def revert(work: Path, culprit: str, bad: str) -> bool:
    """Check out the bad end without the culprit; return whether it reverts there.

    Args:
        work: the lab's own checkout.
        culprit: the hash of the commit to revert.
        bad: the hash of the bad end.
    """
    gittree.git(work, "bisect", "reset", bad)
    parents = gittree.git(work, "rev-list", "--parents", "-n1", culprit).split()[1:]
    mainline = ["--mainline", "1"] if len(parents) > 1 else []
    try:
        gittree.git(work, *IDENTITY, "revert", "--no-edit", *mainline, culprit)
    except BuildError:
        gittree.git(work, "reset", "--quiet", "--hard", bad)
        return False
    return True


def write_verdict(given: CommitVerdict, where: Path) -> None:
    """Write a verdict to a file, for the process that drives the bisection."""
    folder = where / given.commit[:SHORT]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(folder / "verdict.json", json.dumps(asdict(given)))


def read_verdicts(where: Path) -> dict[str, CommitVerdict]:
    """Return the verdicts that were written to the file, by commit."""
    found = [CommitVerdict(**json.loads(path.read_text())) for path in where.glob("*/verdict.json")]
    return {one.commit: one for one in found}


@contextlib.contextmanager
def _checkout(repository: Path, cache: Cache) -> Iterator[Path]:
    """Yield the lab's own checkout for git bisect; remove all traces of a bisection at the end."""
    with checkout.borrowed(repository, cache) as work:
        checkout.forget(work)
        _end_bisection(work)  # of a run that was killed
        try:
            yield work
        finally:
            _end_bisection(work)


def _end_bisection(work: Path) -> None:
    if (work / ".git/BISECT_START").exists():
        gittree.git(work, "bisect", "reset", "HEAD")


def _check_ends(
    work: Path, ends: dict[str, int], question: Question, where: Path, cache: Cache
) -> None:
    for commit, expected in ends.items():
        with progress.task(f"Checking out {commit[:SHORT]}"):
            gittree.git(work, "checkout", "--quiet", "--force", "--detach", commit)
        found = judge_commit(work, question, where, cache)
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


def _drive(work: Path, question: Question, where: Path) -> str:
    """Run this program from git bisect and return git's output."""
    command: Sequence[str] = [*COMMAND, "--evidence", str(where), *question.words]
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
            ["git", "-C", str(work), "bisect", "run", *command],
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
