"""Bisection by the real git on a small history; kernel and guest are stood in for."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.support.repositories import commit, fingerprint, new_repository

from vfio_lab.campaign import bisect_report, bisection
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
QUESTION = bisection.Question("a scenario")
JUDGE = """
    import json, pathlib, subprocess, sys
    where = pathlib.Path(sys.argv[2])
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    word = pathlib.Path("word").read_text()
    word = "bad" if word == "good" and pathlib.Path("bug").exists() else word
    code = {"good": 0, "bad": 1, "broken": 125, "unsteady": 128}[word]
    (where / commit[:12]).mkdir(parents=True, exist_ok=True)
    verdict = {"commit": commit, "code": code, "reason": word, "evidence": str(where)}
    (where / commit[:12] / "verdict.json").write_text(json.dumps(verdict))
    print(f"vfio-lab: {word}")
    sys.exit(code)
"""


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


def history(tree: Path, *, changed_later: bool = False, **special: str) -> list[str]:
    """Make a history in which some commits are not what their place says; return the hashes."""
    new_repository(tree)
    made = []
    for number in range(COMMITS):
        files = {"word": special.get(f"c{number}", "good"), f"step-{number}": ""}
        files |= {"bug": "bug"} if number == CULPRIT else {}
        files |= {"bug": "a bug"} if changed_later and number == CULPRIT + 2 else {}
        made.append(commit(tree, f"step {number}", files))
    return made


def run(tree: Path, where: Path, ends: tuple[str, str], tmp_path: Path) -> bisection.Culprit:
    return bisection.find_culprit(ends, tree, QUESTION, where, Cache(tmp_path / "cache"))


def assert_no_bisection(cache: Path) -> None:
    """Check that the lab's own checkout has no trace of a bisection."""
    (work,) = cache.glob("checkout/*/linux")
    assert not gittree.git(work, "for-each-ref", "refs/bisect")
    assert list((work / ".git").glob("BISECT*")) == []


def test_the_commit_is_found_past_those_that_cannot_be_judged(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree, c8="broken", c9="broken")
    before = fingerprint(tree)
    found = run(tree, where, (commits[0], "main"), tmp_path)
    assert found.commits == (commits[CULPRIT],)
    good, bad = found.both_sides(tree)
    assert (good.code, bad.commit) == (GOOD, commits[CULPRIT])
    assert "git bisect bad" in found.log.read_text()
    assert found.revert is not None
    assert found.revert.code == GOOD
    assert fingerprint(tree) == before
    assert_no_bisection(tmp_path / "cache")


def test_a_culprit_that_later_commits_build_on_does_not_revert(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree, changed_later=True)
    gittree.git(tree, "tag", "v6.12.35")
    found = run(tree, where, (commits[0], "v6.12.35"), tmp_path)
    assert (found.commits, found.revert) == ((commits[CULPRIT],), None)
    assert bisect_report.revert_line(found, tree) == "revert on v6.12.35: does not revert"
    assert_no_bisection(tmp_path / "cache")


def test_the_report_is_text_for_a_mail(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree)
    upstream = "ab" * 20
    gittree.git(tree, "checkout", "-q", "-b", "stable", commits[CULPRIT - 1])
    subject = "vfio/pci: Refuse what nobody " + "ever " * 12 + "asked for"
    body = f"commit {upstream} upstream."
    culprit = commit(tree, subject, {"word": "bad"}, body)
    commit(tree, "vfio: Remark", {"remark": ""})
    for name, end in {"v6.12.34": commits[CULPRIT - 2], "v6.12.35": "HEAD"}.items():
        gittree.git(tree, "tag", name, end)
    found = run(tree, where, ("v6.12.34", "v6.12.35"), tmp_path)
    scenario = "scenarios/vf_token/test_match.py::test_vf_opens_with_the_token_its_pf_user_set"
    text = bisect_report.bisect_text(found, tree, bisection.Question(scenario))
    lines = text.splitlines()
    assert text.startswith("A bisection between v6.12.34 (good) and v6.12.35 (bad) ended at\n")
    assert f'Fixes: {upstream[:12]} ("{subject}")' in lines
    assert f"#regzbot introduced: {culprit[:12]}" in lines
    assert f"good: {commits[CULPRIT - 1][:12]}, the scenario passes" in lines
    assert f"bad: {culprit[:12]}, bad" in lines
    assert "revert on v6.12.35: good" in lines
    assert f"  git checkout {culprit[:12]}" in lines
    assert "A04: " in text
    unwrapped = ("Fixes: ", "  scenarios/", "    'scenarios/")
    assert [one for one in lines if len(one) > 72 and not one.startswith(unwrapped)] == []


def test_the_report_names_all_suspects(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree, c10="broken", c11="broken")
    found = run(tree, where, (commits[0], commits[-1]), tmp_path)
    text = bisect_report.bisect_text(found, tree, QUESTION)
    assert f"#regzbot introduced: {commits[9][:12]}..{commits[12][:12]}" in text
    assert "Fixes:" not in text
    assert "not tried" in text


def test_a_fragment_is_read_before_anything_is_built(tmp_path: Path, where: Path) -> None:
    tree = tmp_path / "linux"
    commits = history(tree)
    fragment = tmp_path / "debug.config"
    fragment.write_text("# mine\nCONFIG_KASAN=y\n# CONFIG_PCI_IOV is not set\n")
    question = bisection.Question("a scenario", fragment)
    assert {one.name: one.value for one in question.options()} == {"KASAN": "y", "PCI_IOV": "n"}
    assert question.words == ["--config", str(fragment), "a scenario"]
    fragment.write_text("CONFIG_KASAN=y\nKASAN\n")
    with pytest.raises(UsageError, match=r"debug\.config:2 is no configuration line"):
        bisection.find_culprit(
            (commits[0], commits[-1]), tree, question, where, Cache(tmp_path / "cache")
        )


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
    before = fingerprint(tree)
    with pytest.raises(UsageError, match=f"the {end} end is"):
        run(tree, where, (commits[good], commits[bad]), tmp_path)
    assert fingerprint(tree) == before


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
    before = fingerprint(tree)

    def interrupt(*_arguments: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(bisection, "_drive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tree, where, (commits[0], commits[-1]), tmp_path)
    assert fingerprint(tree) == before


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
