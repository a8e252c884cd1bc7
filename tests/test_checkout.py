"""Checkouts of the lab's own: real git, and a user's repository that stays as it was."""

import shutil
from pathlib import Path

import pytest
from tests.support.checkouts import change
from tests.support.repositories import WHO, commit, fingerprint, new_repository

from vfio_lab.errors import BuildError, UsageError
from vfio_lab.kernels import base, checkout, export, gittree, kconfig, khistory, series
from vfio_lab.util.cache import Cache

FILE = "drivers/vfio/vfio_main.c"
TREE = {"Makefile": "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n", "Kconfig": ""}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache").open()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A kernel's repository with the commits v1, v2 and v3, the last two below drivers/vfio."""
    tree = new_repository(tmp_path / "linux")
    for number in (1, 2, 3):
        commit(tree, f"vfio: Step {number}", {**TREE, FILE: f"{number}\n"})
        gittree.git(tree, "tag", f"v{number}")
    return tree


def test_a_commit_is_checked_out_and_the_repository_stays_as_it_was(
    repository: Path, cache: Cache
) -> None:
    (repository / FILE).write_text("an edit of the user's\n")
    (repository / "untracked").touch()
    before = fingerprint(repository)
    first, second = (gittree.commit_hash(repository, name) for name in ("v1", "v2"))
    with checkout.checked_out(repository, first, cache) as tree:
        assert (tree / FILE).read_text() == "1\n"
        assert not (tree / "untracked").exists()
        assert checkout.owns(tree, cache)
        makefile = (tree / "Makefile").stat().st_mtime_ns
    with checkout.checked_out(repository, second, cache) as tree:
        assert (tree / FILE).read_text() == "2\n"
        assert (tree / "Makefile").stat().st_mtime_ns == makefile
        assert gittree.git(tree, "describe", "--tags").strip() == "v2"
    assert fingerprint(repository) == before


def test_what_was_interrupted_is_made_good(repository: Path, cache: Cache) -> None:
    commit_ = gittree.commit_hash(repository, "v2")
    with checkout.checked_out(repository, commit_, cache) as tree:
        checkout.forget(tree)
        (tree / FILE).write_text("half")
        (tree / ".git/index.lock").touch()
    with checkout.checked_out(repository, commit_, cache) as tree:
        assert (tree / FILE).read_text() == "2\n"


def test_bare_repositories_linked_worktrees_and_shallow_clones_will_do(
    repository: Path, cache: Cache
) -> None:
    bare, linked = repository.with_name("linux.git"), repository.with_name("linked")
    shallow = repository.with_name("shallow")
    change(repository, "clone", "-q", "--bare", str(repository), str(bare))
    gittree.git(repository, "worktree", "add", "-q", str(linked), "v1")
    change(repository, "clone", "-q", "--depth=1", f"file://{repository}", str(shallow))
    last = gittree.commit_hash(repository, "v3")
    for place in (bare, linked, shallow):
        with checkout.checked_out(place, last, cache) as tree:
            assert (tree / FILE).read_text() == "3\n"
            assert gittree.is_shallow(tree) is (place == shallow)
            assert khistory.known(tree) == {}


def test_the_state_of_a_checkout_is_that_of_its_commit(repository: Path, cache: Cache) -> None:
    keys = []
    for name in ("v1", "v2", "v1"):
        with checkout.checked_out(repository, gittree.commit_hash(repository, name), cache) as tree:
            keys.append(export.read_source(tree, cache).key)
    assert keys[0] == keys[2] != keys[1]


def test_only_the_last_checkouts_are_kept(repository: Path, cache: Cache) -> None:
    last = gittree.commit_hash(repository, "v3")
    for number in range(checkout.KEPT + 2):
        copy = repository.with_name(f"copy{number}")
        shutil.copytree(repository, copy)
        with checkout.checked_out(copy, last, cache):
            pass
    assert len(list((cache.root / checkout.KIND).iterdir())) == checkout.KEPT


def test_a_damaged_repository_is_named(repository: Path, cache: Cache) -> None:
    last = gittree.commit_hash(repository, "v3")
    shutil.rmtree(repository / ".git/objects")
    (repository / ".git/objects").mkdir()
    with (
        pytest.raises(BuildError, match="cannot run git checkout"),
        checkout.checked_out(repository, last, cache),
    ):
        pass


def chosen(repository: Path, *sources: str, on: str | None = None) -> base.Base:
    return base.choose_base(on, series.read_series(sources, repository), repository)


def test_a_series_is_tried_on_its_own_ground(repository: Path, tmp_path: Path) -> None:
    first, second = (gittree.commit_hash(repository, name) for name in ("v1", "v2"))
    found = chosen(repository / "drivers", "v2..v3")
    assert (found, found.name) == (
        base.TreeBase(repository, "the start of v2..v3", second),
        f"linux@v2 ({second[:12]})",
    )
    mailbox = tmp_path / "series.mbox"
    options = ("--stdout", "--cover-letter", "--base", first)
    mailbox.write_text(gittree.git(repository, *WHO, "format-patch", *options, "v2..v3"))
    assert chosen(repository, str(mailbox)) == base.TreeBase(
        repository, "the series' base-commit", first
    )
    elsewhere = chosen(tmp_path, str(mailbox))
    assert isinstance(elsewhere, base.PackagedBase)
    assert elsewhere.why == f"{tmp_path} does not have the series' base-commit {first[:12]}"
    mailbox.write_text(gittree.git(repository, "format-patch", "--stdout", "v2..v3"))
    assert chosen(repository, str(mailbox)) == base.PackagedBase(
        "7.3", "the series names no base-commit", repository
    )


def test_a_fragment_configures_a_tree_and_no_packaged_kernel(repository: Path) -> None:
    options = (kconfig.Option("KASAN", "y", "mine", "fragment:1"),)
    found = series.read_series(["v2..v3"], repository)
    ground = base.choose_base(None, found, repository, options)
    assert (ground.config, base.choose_base(None, found, repository).config) == (options, ())
    with pytest.raises(UsageError, match=r"kernel 6\.12 has a configuration of its own") as refusal:
        base.choose_base("6.12", found, repository, options)
    assert "6.12:debug" in (refusal.value.hint or "")


def test_a_range_starts_where_its_ends_part(repository: Path) -> None:
    gittree.git(repository, "checkout", "-q", "-b", "topic", "v2")
    commit(repository, "vfio: Topic", {FILE: "topic\n"})
    found = chosen(repository, "main..topic")
    assert isinstance(found, base.TreeBase)
    assert found.commit == gittree.commit_hash(repository, "v2")


def test_what_is_named_is_taken(repository: Path, tmp_path: Path) -> None:
    first = gittree.commit_hash(repository, "v1")
    patches = "v2..v3"
    assert chosen(repository, patches, on="6.12").name == "6.12"
    assert chosen(repository, patches, on=str(repository)) == base.TreeBase(
        repository, "named with --on"
    )
    for name in ("v1", f"{repository}@v1", f"{repository / 'drivers'}@{first}"):
        assert chosen(repository, patches, on=name) == base.TreeBase(
            repository, "named with --on", first
        )
    for name, complaint in {
        "debian/bookworm": "debian/bookworm has no sources",
        "7.9": "7.9 has no sources",
        f"{repository}@v9": "has no commit v9",
        f"{tmp_path}@v1": "is in no git repository",
        str(tmp_path): "has no sources",
    }.items():
        with pytest.raises(UsageError, match=complaint):
            chosen(repository, patches, on=name)
