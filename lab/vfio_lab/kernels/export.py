"""A user's source tree, built with the lab's options in a separate mirror.

The tree is never written to; it may be dirty, configured or built in place. The mirror is kept, so
that a build compiles only what changed: for a change below drivers/vfio, a few objects.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath

from vfio_lab.errors import BuildError
from vfio_lab.kernels import (
    gittree,
    kbuild,
    kconfig,
    khistory,
    kmodules,
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
RECIPE = 1
LABEL_DIGITS = 8


@dataclass
class TreeState:
    """The recorded state of a mirror.

    Args:
        tree: the mirrored tree.
        files: the mirror's files, with the stamps of the tree's files.
        asked: the digest of the options that it is configured with.
        base: the product of the last full build, empty if there was none.
        pending: the files that changed since the last full build.
        targets: the modules below drivers/vfio and those they need.
    """

    tree: str
    files: dict[str, str] = field(default_factory=dict)
    asked: str = ""
    base: str = ""
    pending: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)

    @property
    def modules_suffice(self) -> bool:
        """Whether rebuilding the modules is enough."""
        inside = (PurePath(name).is_relative_to(ktree.VFIO) for name in self.pending)
        return bool(self.base) and all(inside)


def ensure_tree_kernel(tree: Path, cache: Cache) -> Kernel:
    """Return the kernel of a source tree in its current state; build what has changed.

    Args:
        tree: the top folder of the sources.
        cache: the cache that keeps mirrors and products.

    Raises:
        UsageError: the sources cannot be distinguished from the output of a build in place.
        HostError: a tool or disk space is missing.
        BuildError: the kernel does not compile.
    """
    tree = tree.resolve()
    version = kbuild.version(tree)
    asked = options(version)
    with progress.task(f"Looking for changes in {tree}"):
        files = gittree.stamps(tree, gittree.tracked_files(tree))
    wanted = {option.name: option.value for option in asked}
    inputs = {"recipe": RECIPE, "tree": str(tree), "files": files, "asked": wanted}
    key = digest(inputs)[:16]
    job = kbuild.Job(f"{tree.name}+{key[:LABEL_DIGITS]}", asked, (), 0)

    def build(scratch: Path) -> None:
        host.need("kernel")
        with _mirror(tree, cache) as folder:
            bench = kbuild.Bench(job, folder, cache, foreign=True)
            state = _update(bench, tree, files)
            _make(bench, scratch, state, key)
        facts = asdict(bench.made()) | {"history": khistory.known(tree)}
        facts |= {"git": provenance.git_facts(tree)}
        kernels.write_facts(
            scratch, {"name": job.name, "lasting": False, "tree": str(tree), **facts}
        )
        bench.forget_logs()

    entry = cache.obtain(KIND, key, build)
    cache.prune(KIND, PRODUCTS_KEPT, IDLE_S)
    return kernels.read_kernel(entry)


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


def _update(bench: kbuild.Bench, tree: Path, files: dict[str, str]) -> TreeState:
    """Update the mirror to the tree's state, and configure it if the options changed."""
    state = _read(bench.work, tree)
    # If we are interrupted here, the record of changes since the last full build is lost.
    _write(bench.work, replace(state, base=""))
    with progress.task(f"Mirroring {tree}"):
        changed = gittree.mirror_tree(tree, files, bench.tree, state.files)
    state.files = files
    state.pending = sorted({*state.pending, *changed})
    asked = digest({option.name: option.value for option in bench.job.asked})
    if state.asked != asked:
        state.base = ""
        _write(bench.work, state)
        bench.configure()
        state.asked = asked
        if lacking := bench.refused():
            LOG.warning("%s has no CONFIG_%s", bench.job.name, ", CONFIG_".join(lacking))
    _write(bench.work, state)
    return state


def _make(bench: kbuild.Bench, product: Path, state: TreeState, key: str) -> None:
    base = bench.cache.find(KIND, state.base) if state.base else None
    if base is not None and state.modules_suffice and _make_modules(bench, base, product, state):
        return
    bench.compile()
    bench.pack(product)
    state.base, state.pending = key, []
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
