"""Source trees: real git repositories, small."""

import os
from pathlib import Path

import pytest

from vfio_lab.errors import BuildError, UsageError
from vfio_lab.kernels import gittree, khistory
from vfio_lab.spec import changes


def commit(tree: Path, subject: str, body: str = "") -> str:
    """Change a file below drivers/vfio and commit all."""
    file = tree / "drivers/vfio/vfio_main.c"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"/* {subject} */\n")
    gittree.git(tree, "add", "-A")
    who = ("-c", "user.name=n", "-c", "user.email=n@invalid")
    gittree.git(tree, *who, "commit", "-q", "-m", f"{subject}\n\n{body}")
    return gittree.git(tree, "rev-parse", "HEAD").strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / ".gitignore").write_text("*.o\n.config\n")
    gittree.git(tree, "init", "-q")
    commit(tree, "begin")
    return tree


def test_a_checkouts_files_are_its_sources_new_ones_too(tree: Path) -> None:
    for name in ("new.c", "a.o", ".config"):
        (tree / name).touch()
    assert gittree.tracked_files(tree) == [".gitignore", "drivers/vfio/vfio_main.c", "new.c"]
    (tree / "drivers/vfio/vfio_main.c").unlink()
    assert gittree.tracked_files(tree) == [".gitignore", "new.c"]


def test_a_tree_without_git_is_taken_as_it_is_unless_it_was_built_in_place(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("Makefile", "scripts/a.c", "scripts/a.o", "scripts/.a.o.cmd", ".config"):
        (tmp_path / name).touch()
    assert gittree.tracked_files(tmp_path) == ["Makefile", "scripts/a.c"]
    (tmp_path / "include/generated").mkdir(parents=True)
    with pytest.raises(UsageError, match="was built in place") as refusal:
        gittree.tracked_files(tmp_path)
    assert refusal.value.hint == f"make -C {tmp_path} mrproper"


def test_an_edit_changes_the_stamps_and_only_that_is_mirrored(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    before = gittree.stamps(tree, gittree.tracked_files(tree))
    assert gittree.mirror_tree(tree, before, copy, {}) == set(before)
    assert gittree.mirror_tree(tree, before, copy, before) == set()
    (copy / "made.o").touch()
    (tree / "new.c").write_text("new")
    (tree / ".gitignore").unlink()
    after = gittree.stamps(tree, gittree.tracked_files(tree))
    assert after != before
    assert gittree.mirror_tree(tree, after, copy, before) == {"new.c", ".gitignore"}
    assert sorted(path.name for path in copy.iterdir()) == ["drivers", "made.o", "new.c"]


def test_another_time_alone_is_no_edit(tree: Path, tmp_path: Path) -> None:
    before = gittree.stamps(tree, gittree.tracked_files(tree))
    gittree.mirror_tree(tree, before, tmp_path / "copy", {})
    file = tree / "drivers/vfio/vfio_main.c"
    text = file.read_text()
    file.unlink()
    file.write_text(text)
    os.utime(file, (1, 1))
    after = gittree.stamps(tree, before)
    assert after != before
    assert gittree.mirror_tree(tree, after, tmp_path / "copy", before) == set()


def test_what_git_complains_of_is_said(tree: Path) -> None:
    with pytest.raises(BuildError, match="cannot run git checkout") as failure:
        gittree.git(tree, "checkout", "nowhere")
    assert "nowhere" in (failure.value.seen or "")


def test_a_history_tells_of_changes_by_hash_by_backport_and_by_subject(tree: Path) -> None:
    registry = list(changes.load_changes().values())
    hashed = [one for one in registry if len(one.id) == 12 and one.id.isalnum()][:3]
    by_subject, by_line, by_bracket = hashed
    commit(tree, by_subject.subject)
    commit(tree, "vfio: other words", f"commit {by_line.id}{'0' * 28} upstream.")
    commit(tree, "vfio: yet others", f"[ Upstream commit {by_bracket.id}{'0' * 28} ]")
    assert khistory.known(tree) == {one.id: True for one in hashed}
    commit(tree, f'Revert "{by_subject.subject}"')
    assert khistory.known(tree)[by_subject.id] is False


def test_the_hash_of_a_commit_counts_too() -> None:
    change = next(iter(changes.load_changes().values()))
    log = [(change.id + "0" * 28, "in other words", "")]
    assert khistory.changes_in_log([change], log) == {change.id: True}


def test_a_tree_without_history_is_silent(tmp_path: Path) -> None:
    assert khistory.known(tmp_path) == {}
