"""Patches applied by the real git to files on disk, by context or by the index's blobs."""

from pathlib import Path, PurePath

import pytest
from tests.support.repositories import commit, fingerprint, new_repository

from vfio_lab.errors import BuildError
from vfio_lab.kernels import checkout, gittree, patching, series
from vfio_lab.kernels.patching import Content

FILE = "drivers/vfio/vfio_main.c"
NAME = PurePath(FILE)
BEFORE = "one\ntwo\nthree\nfour\nfive\n"
AFTER = BEFORE.replace("three", "3")
DIFF = f"""\
--- a/{FILE}
+++ b/{FILE}
@@ -1,5 +1,5 @@
 one
 two
-three
+3
 four
 five
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "linux"
    (tree / FILE).parent.mkdir(parents=True)
    (tree / FILE).write_text(BEFORE)
    return tree


def patched(tree: Path, *texts: str, repositories: tuple[Path, ...] = ()) -> patching.PatchedFiles:
    patches = [series.Patch(f"patch {number}", text) for number, text in enumerate(texts)]
    return patching.patched_files(patches, tree, "kernel 7.3", repositories)


def test_a_patch_changes_no_tree_until_it_is_written_and_is_undone(tree: Path) -> None:
    base = tree.with_name("base")
    (base / FILE).parent.mkdir(parents=True)
    (base / FILE).hardlink_to(tree / FILE)
    files = patched(tree, DIFF)
    assert files == {NAME: Content(patching.FILE, AFTER.encode())}
    assert (tree / FILE).read_text() == BEFORE
    patching.write_files(files, tree)
    assert ((tree / FILE).read_text(), (base / FILE).read_text()) == (AFTER, BEFORE)
    patching.restore_files(files, base, tree)
    assert (tree / FILE).read_text() == BEFORE
    assert (tree / FILE).stat().st_mtime_ns > (base / FILE).stat().st_mtime_ns


def test_files_are_added_removed_renamed_and_made_programs(tree: Path) -> None:
    new = "--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+new\n"
    gone = f"--- a/{FILE}\n+++ /dev/null\n@@ -1,5 +0,0 @@\n" + "".join(
        f"-{line}\n" for line in BEFORE.split()
    )
    assert patched(tree, new, gone) == {
        NAME: None,
        PurePath("new.c"): Content(patching.FILE, b"new\n"),
    }
    renamed = (
        f"diff --git a/{FILE} b/x.c\nsimilarity index 100%\nrename from {FILE}\nrename to x.c\n"
    )
    assert patched(tree, renamed)[PurePath("x.c")] == Content(patching.FILE, BEFORE.encode())
    program = f"diff --git a/{FILE} b/{FILE}\nold mode 100644\nnew mode 100755\n"
    assert patched(tree, program) == {NAME: Content(patching.PROGRAM, BEFORE.encode())}


def test_the_patches_of_a_series_build_on_each_other(tree: Path) -> None:
    second = DIFF.replace("-three\n+3", "-3\n+drei")
    assert patched(tree, DIFF, second)[NAME] == Content(
        patching.FILE, BEFORE.replace("three", "drei").encode()
    )


def test_a_patch_that_does_not_match_by_context_is_merged_by_its_blobs(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "author")
    commit(repository, "begin", {FILE: BEFORE})
    commit(repository, "vfio: three", {FILE: AFTER})
    text = gittree.git(repository, "format-patch", "--stdout", "HEAD~..HEAD")
    (patch,) = series.read_series(["HEAD~..HEAD"], repository).patches
    tree = tmp_path / "other"
    (tree / FILE).parent.mkdir(parents=True)
    (tree / FILE).write_text(BEFORE.replace("one", "zero\none").replace("five", "5"))
    with pytest.raises(BuildError, match="does not apply"):
        patched(tree, text)
    objects = checkout.object_folder(repository)
    files = patching.patched_files([patch], tree, "other", [objects])
    assert files == {NAME: Content(patching.FILE, b"zero\none\ntwo\n3\nfour\n5\n")}


def test_objects_that_are_borrowed_keep_their_times(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "author")
    commit(repository, "begin", {FILE: BEFORE})
    commit(repository, "vfio: three", {FILE: AFTER})
    objects = checkout.object_folder(repository)
    found = series.read_series(["HEAD~..HEAD"], repository).patches
    gittree.git(repository, "checkout", "-q", "HEAD~")
    before = fingerprint(repository)
    patching.patched_files(found, repository, "other", [objects])  # writes what it has already
    (repository / FILE).write_text(f"zero\n{BEFORE}")
    patching.patched_files(found, repository, "other", [objects])
    (repository / FILE).write_text(BEFORE)
    assert fingerprint(repository) == before


def test_patch_file_and_line_are_named_where_one_does_not_apply(tree: Path) -> None:
    (tree / FILE).write_text(BEFORE.replace("three", "drei"))
    with pytest.raises(BuildError, match=r"patch 0: does not apply to kernel 7\.3") as failure:
        patched(tree, DIFF)
    assert failure.value.seen == f"{FILE}:1"
    assert failure.value.exit_code == 125
    with pytest.raises(BuildError) as failure:
        patched(tree, DIFF.replace("vfio_main", "absent"))
    assert failure.value.seen == "kernel 7.3 has no drivers/vfio/absent.c"
    present = f"--- /dev/null\n+++ b/{FILE}\n@@ -0,0 +1 @@\n+new\n"
    with pytest.raises(BuildError) as failure:
        patched(tree, present)
    assert failure.value.seen == f"kernel 7.3 has {FILE} already"


@pytest.mark.parametrize("name", ["../outside", "/dev/zero", ".git/config"])
def test_a_patch_reaches_nothing_outside_the_tree(tree: Path, name: str) -> None:
    (tree.parent / "outside").write_text(BEFORE)
    with pytest.raises(BuildError, match="does not apply"):
        patched(tree, DIFF.replace(FILE, name))
    assert (tree.parent / "outside").read_text() == BEFORE


def test_a_digest_is_that_of_the_result(tree: Path) -> None:
    twice = patched(tree, DIFF, DIFF.replace("-three\n+3", "-3\n+three"))
    assert twice == {}
    digests = {patching.files_digest(files) for files in (patched(tree, DIFF), twice)}
    assert digests == {
        patching.files_digest({}),
        patching.files_digest({NAME: Content(patching.FILE, AFTER.encode())}),
    }
