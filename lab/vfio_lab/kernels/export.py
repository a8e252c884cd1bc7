"""A user's source tree, built with the lab's options in a separate mirror.

The tree is never written to; it may be dirty, configured or built in place. The mirror is kept, so
that a build compiles only what changed: for a change below drivers/vfio, a few objects.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath

from vfio_lab.errors import BuildError
from vfio_lab.kernels import (
    checkout,
    gittree,
    kbuild,
    kconfig,
    khistory,
    kmodules,
    kselftests,
    ktree,
    provenance,
)
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util import host, progress
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.files import write_whole

LOG = logging.getLogger(__name__)
KIND = "foreign"  # the products
MIRRORS = "mirror"
STATE = "state.json"
# A product is about 12 MB. A mirror's objects are 300 MB; its sources are shared where possible.
PRODUCTS_KEPT = 24
MIRRORS_KEPT = 4
IDLE_S = 900.0
RECIPE = 2
LABEL_DIGITS = 8


@dataclass
class TreeState:
    """The recorded state of a mirror.

    Args:
        tree: the mirrored tree.
        files: the mirror's files, with the stamps of the tree's files.
        asked: the digest of the options that it is configured with.
        base: the product of the last full build, empty if there was none.
        built: the product that the objects are of, empty if they are of none.
        pending: the files that changed since the last full build.
        targets: the modules below drivers/vfio and those they need.
    """

    tree: str
    files: dict[str, str] = field(default_factory=dict)
    asked: str = ""
    base: str = ""
    built: str = ""
    pending: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)

    @property
    def modules_suffice(self) -> bool:
        """Whether rebuilding the modules is enough."""
        inside = (PurePath(name).is_relative_to(ktree.VFIO) for name in self.pending)
        return bool(self.base) and all(inside)


@dataclass(frozen=True)
class TreeSource:
    """A source tree in one state.

    Args:
        tree: the top folder.
        files: the names of its files, with stamps that change when a file does.
        asked: the options that its kernel is built with.
    """

    tree: Path
    files: dict[str, str]
    asked: tuple[kconfig.Option, ...]

    @cached_property
    def key(self) -> str:
        """The key of its product."""
        wanted = {option.name: option.value for option in self.asked}
        inputs = {"tree": str(self.tree), "files": self.files, "asked": wanted}
        return digest({"recipe": RECIPE, **inputs})[:16]

    @property
    def job(self) -> kbuild.Job:
        """What to build."""
        return kbuild.Job(f"{self.tree.name}+{self.key[:LABEL_DIGITS]}", self.asked, (), 0)


def read_source(tree: Path, cache: Cache, config: Sequence[kconfig.Option] = ()) -> TreeSource:
    """Return a tree in its current state.

    Args:
        tree: the top folder of the sources.
        cache: the cache, which has checkouts of the lab's own.
        config: options that are set besides the lab's own, or instead of them.

    Raises:
        UsageError: the sources cannot be distinguished from the output of a build in place.
        BuildError: it is no kernel source.
    """
    tree = tree.resolve()
    asked = {option.name: option for option in (*options(kbuild.version(tree)), *config)}
    with progress.task(f"Looking for changes in {tree}"):
        if checkout.owns(tree, cache):  # nobody edits it
            files = gittree.blobs(tree)
        else:
            files = gittree.stamps(tree, gittree.tracked_files(tree))
    return TreeSource(tree, files, tuple(asked.values()))


def ensure_tree_kernel(tree: Path, cache: Cache, config: Sequence[kconfig.Option] = ()) -> Kernel:
    """Return the kernel of a source tree in its current state; build what has changed.

    Args:
        tree: the top folder of the sources.
        cache: the cache that keeps mirrors and products.
        config: options that are set besides the lab's own, or instead of them.

    Raises:
        UsageError: the sources cannot be distinguished from the output of a build in place.
        HostError: a tool or disk space is missing.
        BuildError: the kernel does not compile.
    """
    source = read_source(tree, cache, config)

    def build(scratch: Path) -> None:
        host.need("kernel")
        with _mirror(source.tree, cache) as folder:
            bench = kbuild.Bench(source.job, folder, cache, foreign=True)
            state = _update(bench, source)
            _make(bench, scratch, state, source.key)
            kselftests.add_selftests(bench, scratch)
        shutil.copyfile(bench.log("compile"), scratch / kbuild.LOG)
        facts = asdict(bench.made()) | {"history": khistory.known(source.tree)}
        facts |= {"git": provenance.git_facts(source.tree)} | provenance.jail_facts()
        facts |= {"name": source.job.name, "lasting": False, "tree": str(source.tree)}
        kernels.write_facts(scratch, facts)
        bench.forget_logs()

    entry = cache.obtain(KIND, source.key, build)
    cache.prune(KIND, PRODUCTS_KEPT, IDLE_S)
    return kernels.read_kernel(entry)


@contextmanager
def built_tree(
    tree: Path, cache: Cache, config: Sequence[kconfig.Option] = ()
) -> Iterator[ktree.Tree]:
    """Yield the mirror of a tree with the objects of its current state, locked.

    Args:
        tree: the top folder of the sources.
        cache: the cache that keeps mirrors.
        config: options that are set besides the lab's own, or instead of them.

    Raises:
        BuildError: the kernel does not compile.
    """
    source = read_source(tree, cache, config)
    with _mirror(source.tree, cache) as folder:
        bench = kbuild.Bench(source.job, folder, cache, foreign=True)
        state = _update(bench, source)
        if state.built != source.key:
            _compile_only(bench, state)
            state.built = source.key
            _write(bench.work, state)
            bench.forget_logs()
        yield ktree.Tree(source.job.name, bench, tuple(state.targets))


def build_folder(tree: Path, cache: Cache) -> Path:
    """Return the build folder of a tree's kernel, with unstripped modules and vmlinux."""
    return cache.root / MIRRORS / _mirror_key(tree) / "src" / kbuild.OUT


def options(version: kconfig.Series) -> tuple[kconfig.Option, ...]:
    """Return the options for every kernel of a version."""
    known = kernels.kernel_catalogue()
    return kconfig.merge_options(known.spec(known.default).options, (), version)


@contextmanager
def _mirror(tree: Path, cache: Cache) -> Iterator[Path]:
    """Yield the folder of a tree's mirror, locked."""
    key = _mirror_key(tree)
    folder = cache.root / MIRRORS / key
    with cache.lock(MIRRORS, key):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(folder)
        yield folder
    others = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[MIRRORS_KEPT:]:
        with cache.lock(MIRRORS, old.name):
            shutil.rmtree(old, ignore_errors=True)


def _mirror_key(tree: Path) -> str:
    return digest(str(tree))[:16]


def _update(bench: kbuild.Bench, source: TreeSource) -> TreeState:
    """Update the mirror to the tree's state, and configure it if the options changed."""
    state = _read(bench.work, source.tree)
    # If we are interrupted here, the record of changes since the last full build is lost.
    _write(bench.work, replace(state, base="", built=""))
    with progress.task(f"Mirroring {source.tree}"):
        changed = gittree.mirror_tree(source.tree, source.files, bench.tree, state.files)
    state.files = source.files
    state.pending = sorted({*state.pending, *changed})
    asked = digest({option.name: option.value for option in bench.job.asked})
    if state.asked != asked:
        state.base = state.built = ""
        _write(bench.work, state)
        bench.configure()
        state.asked = asked
        if lacking := bench.refused():
            LOG.warning("%s has no CONFIG_%s", bench.job.name, ", CONFIG_".join(lacking))
    _write(bench.work, state)
    return state


def _compile_only(bench: kbuild.Bench, state: TreeState) -> None:
    """Compile what differs from the last full build, or all, and make no product."""
    if state.modules_suffice:
        bench.compile(*state.targets)
        return
    bench.compile()
    state.targets = ktree.Tree(bench.job.name, bench).modules()


def _make(bench: kbuild.Bench, product: Path, state: TreeState, key: str) -> None:
    base = bench.cache.find(KIND, state.base) if state.base else None
    if base is not None and state.modules_suffice and _make_modules(bench, base, product, state):
        state.built = key
        _write(bench.work, state)
        return
    bench.compile()
    bench.pack(product)
    state.base, state.built, state.pending = key, key, []
    state.targets = ktree.Tree(bench.job.name, bench).modules()
    _write(bench.work, state)


def _make_modules(bench: kbuild.Bench, base: Path, product: Path, state: TreeState) -> bool:
    """Build the modules below drivers/vfio only; return whether that was enough."""
    try:
        bench.compile(*state.targets)
    except BuildError as error:
        if "modpost" not in (error.tail or ""):
            raise
        return False  # they now depend on another module
    kernel = kernels.read_kernel(base)
    made = [bench.out / name for name in state.targets]
    kmodules.product(kernel, made, product, bench.log("pack"))
    return True


def _read(folder: Path, tree: Path) -> TreeState:
    try:
        return TreeState(**json.loads((folder / STATE).read_text()))
    except (
        OSError,
        ValueError,
        TypeError,
    ):  # there is none, or an older version of the lab wrote it
        for stale in folder.iterdir():
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        return TreeState(str(tree))


def _write(folder: Path, state: TreeState) -> None:
    write_whole(folder / STATE, json.dumps(asdict(state)))
