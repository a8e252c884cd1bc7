"""What a long history says about changes: thousands of commits, tags, merges and backports."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.long_history import long_history
from tests.support.repositories import fingerprint

from vfio_lab.cli import main
from vfio_lab.errors import UsageError
from vfio_lab.kernels import gittree, khistory
from vfio_lab.spec import changes

ENOUGH = 2000
# A history of 2,500 commits takes 0.05 s; one of the kernel has 40,000 in these folders.
MOST_S = 5.0


@pytest.fixture(scope="module")
def hashed() -> list[changes.Change]:
    """Changes of the registry that kernel 6.12.0 lacks, by its version."""
    known = changes.load_changes().values()
    return [one for one in known if len(one.id) == 12 and not one.in_version((6, 12, 0))][:5]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, hashed: list[changes.Change]) -> Path:
    tree = tmp_path_factory.mktemp("long") / "linux"
    subject, line, bracket, reverted, _absent = hashed
    subjects = {400: subject.subject, 500: reverted.subject, 504: f'Revert "{reverted.subject}"'}
    backports = {
        100: f"vfio: In other words\n\ncommit {line.id}{'0' * 28} upstream.",
        300: f"vfio: And in others\n\n[ Upstream commit {bracket.id}{'0' * 28} ]",
    }
    assert long_history(tree, subjects, backports) > ENOUGH
    return tree


def shown(tree: Path, commit: str) -> str:
    gittree.git(tree, "checkout", "-q", "-f", commit)
    done = CliRunner().invoke(main, ["kernel", "show", str(tree)])
    assert done.exit_code == 0, done.output
    return done.output


def test_mainline_has_a_change_from_its_commit_on(tree: Path, hashed: list[changes.Change]) -> None:
    subject, line, _bracket, reverted, _absent = hashed
    gittree.git(tree, "checkout", "-q", "-f", "main")
    assert khistory.known(tree) == {subject.id: True, reverted.id: False}
    assert f"lacks      {reverted}" in shown(tree, "main")
    gittree.git(tree, "checkout", "-q", "-f", "v6.12")
    assert khistory.known(tree) == {}
    text = shown(tree, "v6.12")
    assert "version    6.12.0" in text
    assert f"lacks      {line}" in text


def test_a_stable_release_has_what_was_backported_by_then(
    tree: Path, hashed: list[changes.Change]
) -> None:
    _subject, line, bracket, _reverted, absent = hashed
    for commit, has in {"v6.12.4": [], "v6.12.5": [line], "v6.12.25": [line, bracket]}.items():
        text = shown(tree, commit)
        assert "changes    " in text
        for change in (line, bracket, absent):
            assert f"{'has' if change in has else 'lacks':10} {change}" in text


def test_a_long_history_is_read_in_seconds_and_left_alone(tree: Path) -> None:
    gittree.git(tree, "checkout", "-q", "-f", "main")
    before, began = fingerprint(tree), time.monotonic()
    khistory.known(tree)
    assert time.monotonic() - began < MOST_S
    assert fingerprint(tree) == before


def test_what_the_history_lacks_is_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"has no commit v9\.9"):
        gittree.commit_hash(tree, "v9.9")
