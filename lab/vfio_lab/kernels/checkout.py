"""Checkouts of users' repositories, in repositories of the lab's own.

A user's repository is only read. The lab's own repository borrows its objects
(`objects/info/alternates`), so that nothing is fetched or copied, and has its own index, HEAD and
refs. One checkout serves all runs on a repository: git replaces only the files that differ between
two commits, so builds stay incremental.

Source: gitrepository-layout(5).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vfio_lab.errors import BuildError
from vfio_lab.kernels import gittree, patching
from vfio_lab.util import host, progress
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.files import write_whole

KIND = "checkout"
KEPT = 3
CHECKOUT_BYTES = 3 << 30
SHORT = 12
# Names the commit whose files are in the checkout; absent while they change.
COMPLETE = ".git/vfio-lab-commit"
# Files of the user's repository that say which objects it lacks on purpose.
SHALLOW = "shallow"


def owns(tree: Path, cache: Cache) -> bool:
    """Return whether a tree is a checkout of the lab's own, which nobody edits."""
    return tree.is_relative_to(cache.root / KIND)


def object_folder(repository: Path) -> Path:
    """Return the folder with a repository's objects."""
    return _git_path(repository, "objects")


@contextmanager
def checked_out(repository: Path, commit: str, cache: Cache) -> Iterator[Path]:
    """Yield a checkout of a commit, locked; the next call may replace its files.

    Args:
        repository: the user's repository; it is not written to.
        commit: the hash of one of its commits.
        cache: the cache that keeps checkouts.

    Raises:
        HostError: disk space is missing.
        BuildError: the commit cannot be checked out.
    """
    with borrowed(repository, cache) as tree:
        complete = tree / COMPLETE
        if not complete.exists() or complete.read_text() != commit:
            complete.unlink(missing_ok=True)
            with progress.task(f"Checking out {commit[:SHORT]} of {repository}"):
                gittree.git(tree, "checkout", "--quiet", "--force", "--detach", commit)
            write_whole(complete, commit)
        yield tree


@contextmanager
def borrowed(repository: Path, cache: Cache) -> Iterator[Path]:
    """Yield the lab's own repository with a user's commits and tags, locked.

    Its files are those of the last checkout. Callers that change them say so with `forget`.
    """
    objects = object_folder(repository)
    key = digest(os.fspath(objects))[:16]
    tree = cache.open().root / KIND / key / repository.resolve().name.removesuffix(".git")
    with cache.lock(KIND, key):
        if not (tree / ".git/HEAD").exists():
            _create(tree)
        os.utime(tree.parent)
        _lend(repository, objects, tree / ".git")
        yield tree
    _prune(cache)


def forget(tree: Path) -> None:
    """Note that the files of a checkout are changed by others, such as `git bisect`."""
    (tree / COMPLETE).unlink(missing_ok=True)


def _create(tree: Path) -> None:
    shutil.rmtree(tree.parent, ignore_errors=True)
    tree.parent.mkdir(mode=0o700, parents=True)
    host.need_space(tree.parent, CHECKOUT_BYTES, "checking out a kernel")
    gittree.git(tree.parent, "init", "--quiet", "--template=", os.fspath(tree))
    for name, value in (("gc.auto", "0"), ("core.autocrlf", "false"), ("advice.detachedHead", "0")):
        gittree.git(tree, "config", name, value)


def _lend(repository: Path, objects: Path, own: Path) -> None:
    """Give the lab's own repository the objects, the tags and the limits of the user's."""
    for stale in own.glob("*.lock"):  # of a git that was killed: we hold the lock
        stale.unlink()
    patching.write_alternates(own, [objects])
    tags = gittree.git(repository, "for-each-ref", "--format=%(objectname) %(refname)", "refs/tags")
    write_whole(own / "packed-refs", tags)
    shallow = _git_path(repository, SHALLOW)
    (own / SHALLOW).unlink(missing_ok=True)
    if shallow.exists():
        shutil.copyfile(shallow, own / SHALLOW)


def _git_path(repository: Path, name: str) -> Path:
    try:
        path = gittree.git(repository, "rev-parse", "--git-path", name).strip()
    except BuildError as error:
        raise BuildError(f"cannot read the repository {repository}", seen=error.seen) from error
    return (repository / path).resolve()


def _prune(cache: Cache) -> None:
    folder = cache.root / KIND
    others = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        with cache.lock(KIND, old.name):
            shutil.rmtree(old, ignore_errors=True)
