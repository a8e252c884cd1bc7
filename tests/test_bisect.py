"""Bisection by the real git on a small history; kernel and guest are stood in for."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vfio_lab.campaign import bisection
from vfio_lab.campaign.bisection import (
    ABORT,
    BAD,
    GOOD,
    SKIP,
    CommitVerdict,
)
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import BuildError, UsageError
from vfio_lab.kernels import gittree
from vfio_lab.util.cache import Cache

COMMITS = 18
CULPRIT = 11
WHO = ("-c", "user.name=n", "-c", "user.email=n@invalid")
JUDGE = """
    import json, pathlib, subprocess, sys
    where = pathlib.Path(sys.argv[2])
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    word = pathlib.Path("state").read_text().split()[1]
    code = {"good": 0, "bad": 1, "broken": 125, "unsteady": 128}[word]
    (where / commit[:12]).mkdir(exist_ok=True)
    verdict = {"commit": commit, "code": code, "reason": word, "evidence": str(where)}
    (where / commit[:12] / "verdict.json").write_text(json.dumps(verdict))
    print(f"vfio-lab: {word}")
    sys.exit(code)
"""


def words(number: int) -> str:
    return "bad" if number >= CULPRIT else "good"


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for evidence; commits are judged by what their file says."""
    script = tmp_path / "judge.py"
    script.write_text(textwrap.dedent(JUDGE))
    monkeypatch.setattr(bisection, "COMMAND", [sys.executable, str(script)])

    def judge(tree: Path, _choice: object, where: Path, _cache: Cache) -> CommitVerdict:
        command = [sys.executable, str(script), "--evidence", str(where)]
        subprocess.run(command, cwd=tree, check=False)
        commit = gittree.git(tree, "rev-parse", "HEAD").strip()
        return CommitVerdict(**json.loads((where / commit[:12] / "verdict.json").read_text()))

    monkeypatch.setattr(bisection, "judge_commit", judge)
    (tmp_path / "evidence").mkdir()
    return tmp_path / "evidence"


def history(tree: Path, **special: str) -> list[str]:
    """Make a history in which some commits are not what their place says; return the hashes."""
    tree.mkdir()
    gittree.git(tree, "init", "-q", "-b", "main")
    made = []
    for number in range(COMMITS):
        word = special.get(f"c{number}", words(number))
        (tree / "state").write_text(f"{number} {word}\n")
        gittree.git(tree, "add", "-A")
        gittree.git(tree, *WHO, "commit", "-q", "-m", f"step {number}")
        made.append(gittree.git(tree, "rev-parse", "HEAD").strip())
    return made


def run(tree: Path, where: Path, ends: tuple[str, str], tmp_path: Path) -> bisection.Culprit:
    return bisection.find_culprit(ends, tree, "a scenario", where, Cache(tmp_path / "cache"))


def marks(tree: Path) -> str:
    """Return all that a bisection could leave behind in a repository."""
    refs = gittree.git(tree, "for-each-ref")
    trees = gittree.git(tree, "worktree", "list", "--porcelain")
    return refs + trees + gittree.git(tree, "status", "--porcelain", "--branch")


def test_the_commit_is_found_past_those_that_cannot_be_judged(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree, c8="broken", c9="broken")
    before = marks(tree)
    found = run(tree, where, (commits[0], "main"), tmp_path)
    assert found.commits == (commits[CULPRIT],)
    good, bad = found.both_sides(tree)
    assert (good.code, bad.commit) == (GOOD, commits[CULPRIT])
    assert "git bisect bad" in found.log.read_text()
    assert marks(tree) == before
    assert list((tmp_path / "cache/bisect").glob("*")) == []


def test_all_suspects_are_named_when_the_culprit_cannot_be_judged(
    tmp_path: Path, where: Path
) -> None:
    tree = tmp_path / "linux"
    commits = history(tree, c10="broken", c11="broken")
    found = run(tree, where, (commits[0], commits[-1]), tmp_path)
    assert set(found.commits) == set(commits[10:13])


def test_a_verdict_that_is_not_reproducible_ends_it(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree, **{f"c{number}": "unsteady" for number in range(1, COMMITS - 1)})
    with pytest.raises(BuildError, match="is not reproducible"):
        run(tree, where, (commits[0], commits[-1]), tmp_path)


@pytest.mark.parametrize(("good", "bad", "end"), [(12, 17, "good"), (0, 5, "bad"), (17, 0, "good")])
def test_ends_that_are_not_what_they_are_said_to_be_are_refused(
    tmp_path: Path, where: Path, good: int, bad: int, end: str
) -> None:
    tree = tmp_path / "linux"
    commits = history(tree)
    before = marks(tree)
    with pytest.raises(UsageError, match=f"the {end} end is"):
        run(tree, where, (commits[good], commits[bad]), tmp_path)
    assert marks(tree) == before


def test_what_is_no_commit_is_refused(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree)
    with pytest.raises(UsageError, match="has no commit v9"):
        run(tree, where, (commits[0], "v9"), tmp_path)
    with pytest.raises(UsageError, match="is no git checkout"):
        run(tmp_path, where, (commits[0], commits[1]), tmp_path)


def test_an_interrupt_leaves_git_as_it_was(
    tmp_path: Path, where: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "linux"
    commits = history(tree)
    before = marks(tree)

    def interrupt(*_arguments: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(bisection, "_drive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tree, where, (commits[0], commits[-1]), tmp_path)
    assert marks(tree) == before


@pytest.mark.parametrize(
    ("outcome", "reason", "code"),
    [
        (Outcome.PASSED, "", GOOD),
        (Outcome.FAILED, "AssertionError: expected EACCES", BAD),
        (Outcome.ERROR, "vfio_lab.client.user.Refusal: vf_user: open: ENOENT", BAD),
        (Outcome.ERROR, "vfio_lab.errors.BootError: the boot never became ready", SKIP),
        (Outcome.SKIPPED, "A39 needs CONFIG_IOMMUFD", SKIP),
    ],
)
def test_what_a_run_says_of_a_commit(outcome: Outcome, reason: str, code: int) -> None:
    record = Record("it", ("A01",), "igb", outcome, reason, 1.0, "")
    assert bisection.verdict(Results({}, {}, 0, 0, 0, (record,)))[0] == code


def test_codes_are_those_that_git_understands() -> None:
    assert (GOOD, SKIP) == (0, 125)
    assert 1 <= BAD < SKIP
    assert ABORT >= 128
