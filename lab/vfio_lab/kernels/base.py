"""What a patch series is tried on: a packaged kernel, a tree, or a commit of a repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vfio_lab.errors import UsageError
from vfio_lab.kernels import checkout, export, gittree, ktree, selector
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.kconfig import Option
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.kernels.series import Series
from vfio_lab.util.cache import Cache

AT = "@"
EXPECTED = "a packaged kernel, the top of a source tree, TREE@COMMIT or a commit of the -C folder"


class Base(Protocol):
    """What a series is applied to."""

    @property
    def name(self) -> str:
        """The name in messages."""

    @property
    def option(self) -> str:
        """What `--on` calls it."""

    @property
    def why(self) -> str:
        """The reason why it was chosen."""

    @property
    def config(self) -> tuple[Option, ...]:
        """Options that are set besides the lab's own, or instead of them."""

    @property
    def objects(self) -> list[Path]:
        """Folders with git objects that may help to apply patches."""

    def sources(self, cache: Cache) -> AbstractContextManager[Path]:
        """Yield the folder with the sources, which stay as they are meanwhile."""

    def kernel(self, tree: Path, cache: Cache) -> Kernel:
        """Return the kernel without the series; build it if necessary."""

    def built(self, tree: Path, cache: Cache) -> AbstractContextManager[ktree.Tree]:
        """Yield the tree with its objects, to branch off."""


@dataclass(frozen=True)
class PackagedBase:
    """A packaged kernel.

    Args:
        name: its name in the catalogue.
        why: the reason why it was chosen.
        repository: a repository whose objects may help to apply patches.
    """

    name: str
    why: str
    repository: Path | None = None

    @property
    def option(self) -> str:
        """The name in the catalogue."""
        return self.name

    @property
    def config(self) -> tuple[Option, ...]:
        """None: its options are those of its entry in the catalogue."""
        return ()

    @property
    def objects(self) -> list[Path]:
        """The objects of the repository that the user is in."""
        return _objects(self.repository)

    @contextmanager
    def sources(self, cache: Cache) -> Iterator[Path]:
        """Yield the unpacked sources."""
        yield ktree.ensure_tree(self.name, cache).bench.tree

    def kernel(self, _tree: Path, cache: Cache) -> Kernel:
        """Return the packaged kernel."""
        return kernels.ensure_packaged_kernel(self.name, cache)

    @contextmanager
    def built(self, _tree: Path, cache: Cache) -> Iterator[ktree.Tree]:
        """Yield the tree that the cache keeps."""
        yield ktree.ensure_tree(self.name, cache)


@dataclass(frozen=True)
class TreeBase:
    """A source tree as it is, with its edits, or one commit of its repository.

    Args:
        tree: the top folder of the tree, or the repository.
        why: the reason why it was chosen.
        commit: the hash of the commit; empty for the tree as it is.
        config: options that are set besides the lab's own, or instead of them.
    """

    tree: Path
    why: str
    commit: str = ""
    config: tuple[Option, ...] = ()

    @property
    def name(self) -> str:
        """`linux`, or `linux@v6.12.34 (0123456789ab)` for a commit."""
        if not self.commit:
            return str(self.tree)
        described = gittree.git(self.tree, "describe", "--always", "--tags", self.commit).strip()
        short = self.commit[: checkout.SHORT]
        same = self.commit.startswith(described)
        return f"{self.tree.name}{AT}{short if same else f'{described} ({short})'}"

    @property
    def option(self) -> str:
        """`linux`, or `linux@0123456789ab`; the folder's name alone, which others may read."""
        return self.tree.name + (self.commit and f"{AT}{self.commit[: checkout.SHORT]}")

    @property
    def objects(self) -> list[Path]:
        """The objects of its repository, if it has one."""
        return _objects(gittree.find_repository(self.tree))

    @contextmanager
    def sources(self, cache: Cache) -> Iterator[Path]:
        """Yield the tree, or a checkout of the commit."""
        if not self.commit:
            yield self.tree
            return
        with checkout.checked_out(self.tree, self.commit, cache) as tree:
            yield tree

    def kernel(self, tree: Path, cache: Cache) -> Kernel:
        """Return the kernel of the sources."""
        return export.ensure_tree_kernel(tree, cache, self.config)

    def built(self, tree: Path, cache: Cache) -> AbstractContextManager[ktree.Tree]:
        """Yield the mirror of the sources."""
        return export.built_tree(tree, cache, self.config)


def choose_base(
    named: str | None, series: Series, folder: Path, config: Sequence[Option] = ()
) -> Base:
    """Return what a series is tried on.

    Args:
        named: what the user asks for, None if nothing.
        series: the series.
        folder: the folder that the user is in, or names with -C.
        config: options that are set besides the lab's own, or instead of them.

    Raises:
        UsageError: there is no such base, or it is a packaged kernel, whose options are fixed.
    """
    base = _chosen(named, series, folder)
    if not config:
        return base
    if isinstance(base, TreeBase):
        return replace(base, config=tuple(config))
    raise UsageError(
        f"kernel {base.name} has a configuration of its own",
        expected="a tree or a commit, which is configured with the fragment",
        seen=f"{base.name}: {base.why}",
        hint=f"name a tree with --on, or a flavour such as {base.name.partition(':')[0]}:debug",
    )


def _chosen(named: str | None, series: Series, folder: Path) -> PackagedBase | TreeBase:
    repository = gittree.find_repository(folder)
    if named is not None:
        return _named(named, repository)
    if series.commits is not None and repository is not None:
        why = f"the start of {series.commits.words}"
        return TreeBase(repository, why, _hash(repository, series.commits.start))
    default = kernels.kernel_catalogue().default
    commit = series.base_commit
    if not commit:
        return PackagedBase(default, "the series names no base-commit", repository)
    if repository is not None and gittree.knows(repository, commit):
        return TreeBase(repository, "the series' base-commit", _hash(repository, commit))
    where = repository or folder.resolve()
    why = f"{where} does not have the series' base-commit {commit[: checkout.SHORT]}"
    return PackagedBase(default, why, repository)


def _named(name: str, repository: Path | None) -> PackagedBase | TreeBase:
    why = "named with --on"
    if name in kernels.kernel_catalogue().specs:
        return PackagedBase(name, why, repository)
    path = Path(name).expanduser()
    if selector.is_source(path):
        return TreeBase(path.resolve(), why)
    tree, at, commit = name.rpartition(AT)
    if at and Path(tree).expanduser().is_dir():
        top = gittree.find_repository(Path(tree).expanduser())
        if top is None:
            raise UsageError(f"{tree} is in no git repository", expected=EXPECTED)
        return TreeBase(top, why, _hash(top, commit))
    if repository is not None and gittree.knows(repository, name):
        return TreeBase(repository, why, _hash(repository, name))
    raise UsageError(f"{name} has no sources to apply patches to", expected=EXPECTED)


def _hash(repository: Path, commit: str) -> str:
    """Return a commit's hash, if the commit is one of a kernel."""
    found = gittree.commit_hash(repository, commit)
    names = gittree.git(repository, "ls-tree", "--name-only", "--full-tree", found).split()
    if not {"Makefile", "Kconfig"} <= set(names):
        raise UsageError(f"{commit} of {repository} is no kernel source", expected=EXPECTED)
    return found


def _objects(repository: Path | None) -> list[Path]:
    return [] if repository is None else [checkout.object_folder(repository)]
