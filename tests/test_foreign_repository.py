"""What a repository that others made can do when the lab looks into it."""

import socket

import pytest
from support.checkouts import change

from vfio_lab.errors import BuildError
from vfio_lab.kernels import checkout, gittree, khistory, provenance, series
from vfio_lab.util import jail
from vfio_lab.util.cache import Cache

WHO = ("-c", "user.name=n", "-c", "user.email=n@invalid")
SIGNATURE = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----\n"
# What runs them: a checkout, `git status`, and a log that shows signatures.
PROGRAMS = ("hook", "smudge", "clean", "fsmonitor", "signature")
ALIAS = """!sh -c '
cat $HOME/.ssh/key && echo has the key
touch $HOME/planted
touch .git/planted && echo wrote the repository
python3 -c "import socket; socket.create_connection((\\"127.0.0.1\\", {port}))" && echo has network
:'"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh/key").write_text("secret")
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def tree(tmp_path, home):
    """A checkout with a signed commit, whose settings name programs; each leaves a file at home."""
    tree = tmp_path / "linux"
    tree.mkdir()
    change(tree, "init", "-q", "-b", "main")
    for text in ("one", "two"):
        (tree / "file").write_text(text)
        (tree / ".gitattributes").write_text("file filter=evil\n")
        change(tree, "add", "-A")
        change(tree, *WHO, "commit", "-q", "-m", text)
    plain = change(tree, "cat-file", "commit", "HEAD")
    (tree / "signed").write_text(plain.replace("\n\n", f"\n{SIGNATURE}\n", 1))
    words = ("hash-object", "-t", "commit", "-w", "signed")
    change(tree, "update-ref", "HEAD", change(tree, *words).strip())
    (tree / "signed").unlink()
    marks = {name: f"touch {home}/{name}" for name in PROGRAMS}
    (tree / ".git/hooks/post-checkout").write_text(f"#!/bin/sh\n{marks['hook']}\n")
    (tree / ".git/hooks/post-checkout").chmod(0o755)
    program = tree / ".git/gpg"
    program.write_text(f"#!/bin/sh\n{marks['signature']}\n")
    program.chmod(0o755)
    for name, value in {
        "filter.evil.smudge": f"{marks['smudge']}; cat",
        "filter.evil.clean": f"{marks['clean']}; cat",
        "filter.evil.required": "true",
        "core.fsmonitor": f"{marks['fsmonitor']}; false",
        "gpg.program": str(program),
        "log.showSignature": "true",
    }.items():
        change(tree, "config", name, value)
    (tree / "file").touch()  # so that `git status` reads it
    return tree


def ran(home):
    return {path.name for path in home.iterdir()} & set(PROGRAMS)


def test_git_itself_runs_every_one_of_them(tree, home, tmp_path):
    """The succeeding twin."""
    change(tree, "status")
    change(tree, "worktree", "add", "--detach", tmp_path / "work", "HEAD~")
    change(tree, "log")
    assert ran(home) == set(PROGRAMS)


def test_the_lab_runs_none_of_them(tree, home, tmp_path):
    ends = {name: change(tree, "rev-parse", name).strip() for name in ("HEAD", "HEAD~")}
    cache = Cache(tmp_path / "cache").open()
    assert provenance.git_facts(tree)["dirty"] is False
    assert gittree.tracked_files(tree) == [".gitattributes", "file"]
    assert khistory.known(tree) is not None
    assert series.read_series(["HEAD~..HEAD"], tree).patches[0].name == "two"
    with checkout.checked_out(tree, ends["HEAD~"], cache) as work:
        assert (work / "file").read_text() == "one"
    with checkout.checked_out(tree, ends["HEAD"], cache) as work:
        assert (work / "file").read_text() == "two"
        gittree.git(work, "bisect", "start", *ends.values())
    assert ran(home) == set()


@pytest.mark.skipif(jail.why_not() is not None, reason=f"no jail: {jail.why_not()}")
def test_what_git_runs_all_the_same_is_in_a_jail(tree, home, monkeypatch):
    monkeypatch.setattr(gittree, "READING", {"evil"})
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        change(tree, "config", "alias.evil", ALIAS.format(port=port))
        assert gittree.git(tree, "evil") == ""
        assert sorted(path.name for path in home.iterdir()) == [".ssh"]
        expected = ["secrethas the key", "wrote the repository", "has network"]
        assert change(tree, "evil").splitlines() == expected
        assert (home / "planted").exists()


def test_a_repository_that_shares_objects_is_read_from_anywhere(tree, tmp_path):
    other = tmp_path / "other"
    change(tmp_path, "clone", "-q", "--shared", "--no-checkout", tree, other)
    assert gittree.repositories(other) == [other / ".git", tree / ".git"]
    assert gittree.knows(other, "HEAD~")


def test_what_is_no_repository_is_not_shown_to_git(tree, home):
    alternates = tree / ".git/objects/info/alternates"
    alternates.write_text(f"{home}/.ssh/objects\n")
    assert gittree.repositories(tree) == [tree / ".git"]
    for path in sorted((tree / ".git").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tree / ".git").rmdir()
    (tree / ".git").write_text(f"gitdir: {home}/.ssh\n")
    assert gittree.repositories(tree) == []
    with pytest.raises(BuildError, match="not a git repository"):
        gittree.git(tree, "log")
