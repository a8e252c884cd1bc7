"""Patch series: read and applied by the real git, where they fail said."""

from pathlib import Path, PurePath

import pytest

from vfio_lab.campaign.compare import rows, told
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import BuildError, UsageError
from vfio_lab.kernels import (
    gittree,
    series,
    trial,
)
from vfio_lab.kernels.make_output import complaint

FILE = "drivers/vfio/vfio_main.c"
BEFORE = "one\ntwo\nthree\nfour\nfive\n"
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


@pytest.fixture
def repository(tree: Path) -> Path:
    who = ("-c", "user.name=n", "-c", "user.email=n@invalid")
    gittree.git(tree, "init", "-q")
    for text, subject in ((BEFORE, "begin"), (BEFORE.replace("three", "3"), "vfio: dräi")):
        (tree / FILE).write_text(text)
        gittree.git(tree, "add", "-A")
        gittree.git(tree, *who, "commit", "-q", "-m", subject)
    return tree


def apply(patch: series.Patch, tree: Path) -> None:
    with series.applied([patch], tree, "kernel 7.3"):
        pass


def test_a_patch_file_is_applied_and_taken_back(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "three.patch"
    path.write_text(DIFF)
    (patch,) = series.read_series([str(path)], tmp_path)
    assert (patch.name, patch.touched) == ("three.patch", {PurePath(FILE)})
    with series.applied([patch], tree, "kernel 7.3"):
        assert (tree / FILE).read_text() == BEFORE.replace("three", "3")
    assert (tree / FILE).read_text() == BEFORE


def test_a_plain_diff_of_two_files_is_one_patch(tree: Path) -> None:
    other = FILE.replace("main", "group")
    (tree / other).write_text(BEFORE)
    patch = series.Patch("both", DIFF + DIFF.replace(FILE, other))
    with series.applied([patch], tree, "kernel 7.3"):
        texts = [(tree / file).read_text() for file in (FILE, other)]
    assert texts == [BEFORE.replace("three", "3")] * 2


def test_a_range_and_a_mailbox_are_the_same_series(repository: Path, tmp_path: Path) -> None:
    (patch,) = series.read_series(["HEAD~..HEAD"], repository)
    mailbox = tmp_path / "series.mbox"
    mailbox.write_text(gittree.git(repository, "format-patch", "--stdout", "HEAD~..HEAD"))
    assert series.read_series([str(mailbox)], tmp_path) == [patch]
    assert trial.modules_suffice([patch])
    series.revert(patch, repository)
    assert (repository / FILE).read_text() == BEFORE


def test_a_broken_link_to_the_base_leaves_the_base_alone(tree: Path, tmp_path: Path) -> None:
    branch = tmp_path / "branch" / FILE
    branch.parent.mkdir(parents=True)
    branch.hardlink_to(tree / FILE)
    with series.applied([series.Patch("x", DIFF)], tmp_path / "branch", "kernel 7.3"):
        assert (tree / FILE).read_text() == BEFORE
        assert branch.read_text() != BEFORE


def test_where_a_patch_does_not_apply_is_said(tree: Path) -> None:
    (tree / FILE).write_text(BEFORE.replace("three", "drei"))
    with pytest.raises(BuildError, match=r"x: does not apply to kernel 7\.3") as failure:
        apply(series.Patch("x", DIFF), tree)
    assert failure.value.seen == f"{FILE}:1"
    assert failure.value.exit_code == 125
    foreign = series.Patch("x", DIFF.replace("vfio_main", "absent"))
    with pytest.raises(BuildError) as failure:
        apply(foreign, tree)
    assert "drivers/vfio/absent.c: No such file" in (failure.value.seen or "")


def test_what_is_no_patch_is_refused(tmp_path: Path, repository: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no patch")
    for source in (str(text), "absent.patch"):
        with pytest.raises(UsageError, match="no patch"):
            series.read_series([source], tmp_path)
    with pytest.raises(BuildError, match="cannot run git format-patch"):
        series.read_series(["a..b"], repository)


@pytest.mark.parametrize(
    ("log", "place"),
    [
        ("  CC x.o\n../drivers/vfio/a.c:12:3: error: bad\nmore", "drivers/vfio/a.c:12: error: bad"),
        ("drivers/a.h:1: fatal error: x.h: no\n", "drivers/a.h:1: error: x.h: no"),
        ('ERROR: modpost: "f" undefined!\n', 'modpost: "f" undefined!'),
        ("all is well\n", None),
    ],
)
def test_where_it_does_not_compile_is_said(log: str, place: str | None) -> None:
    assert complaint(log) == place


def ended(**outcomes: tuple[Outcome, str]) -> Results:
    records = [
        Record(name, ("A01",), "igb", outcome, reason, 1.0, "")
        for name, (outcome, reason) in outcomes.items()
    ]
    return Results({}, {}, 0.0, 1.0, 0, tuple(records))


def test_only_what_behaves_otherwise_differs() -> None:
    before = ended(
        same=(Outcome.PASSED, ""),
        worse=(Outcome.PASSED, ""),
        random=(Outcome.FAILED, "token 11e8 refused with EPERM"),
        other=(Outcome.FAILED, "EPERM"),
        gone=(Outcome.PASSED, ""),
    )
    after = ended(
        same=(Outcome.PASSED, ""),
        worse=(Outcome.FAILED, "AssertionError: expected\nEACCES"),
        random=(Outcome.FAILED, "token 22f9 refused with EPERM"),
        other=(Outcome.FAILED, "EACCES"),
    )
    found = {row.nodeid: row for row in rows([before, after])}
    assert {name for name, row in found.items() if row.differs} == {"worse", "other", "gone"}
    assert {name for name, row in found.items() if row.worsened} == {"worse"}
    assert [told(record) for record in found["worse"].records] == [
        "passed",
        "failed: expected EACCES",
    ]
    assert told(found["gone"].records[1]) == "not run"
