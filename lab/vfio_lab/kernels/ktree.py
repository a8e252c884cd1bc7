"""Packaged kernels as built source trees, kept so that a change rebuilds only what it affects.

A tree is never written to once it is built. A change is made in a *branch*: sources are hard links,
which a build in a jail cannot write to, and which are replaced, not written, where a patch changes
them. Folders off the changed path are symbolic links. The build folder is copied: what a jailed
build may write to must not be a file of the tree.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from vfio_lab.kernels import kbuild, ksource, packaged
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache

KIND = "tree"
READY = "ready.json"
BRANCHES = "branch"
WHOLE = PurePath()
VFIO = PurePath("drivers/vfio")
OBJTOOL = PurePath("tools/objtool")
DEPENDS = re.compile(r'^MODULE_INFO\(depends, "(.*)"\);$', re.MULTILINE)
# Output of linking the image; modules are linked against vmlinux.o only.
IMAGE_ONLY = ("vmlinux", "vmlinux.unstripped", ".tmp_vmlinux*", "bzImage", "compressed", "*.bin")


@dataclass(frozen=True)
class Tree:
    """A built source tree.

    Args:
        name: the kernel's name.
        bench: the bench that it was built with.
        targets: what `modules` returns, where make has removed its list of modules.
    """

    name: str
    bench: kbuild.Bench
    targets: tuple[str, ...] = ()

    def modules(self, area: PurePath = VFIO) -> list[str]:
        """Return the modules of a folder and those they depend on, as targets of make."""
        if self.targets and area == VFIO:
            return list(self.targets)
        out = self.bench.out
        order = (out / "modules.order").read_text().split()
        paths = {_module(path): PurePath(path).with_suffix("") for path in order}
        wanted = [name for name, path in paths.items() if path.is_relative_to(area)]
        for name in wanted:
            found = DEPENDS.search((out / f"{paths[name]}.mod.c").read_text())
            depends = found[1].split(",") if found else []
            wanted += [
                _module(needed) for needed in depends if needed and _module(needed) not in wanted
            ]
        return [f"{paths[name]}.ko" for name in wanted]


def ensure_tree(name: str, cache: Cache) -> Tree:
    """Return the built tree of a packaged kernel; build it if necessary.

    Args:
        name: the kernel's name in the catalogue.
        cache: the cache that keeps trees.

    Raises:
        UsageError: there is no such kernel.
        HostError: a tool, disk space or the network is missing.
        BuildError: the kernel does not compile.
    """
    spec = packaged.kernel_catalogue().spec(name)
    package, archive = ksource.ensure_source(cache.open(), spec.source)
    key = spec.key(package.sha256)
    folder = cache.path(KIND, key)
    with cache.lock(KIND, key):
        if not (folder / READY).exists():
            _drop_outdated(name, cache)
            shutil.rmtree(folder, ignore_errors=True)
            kbuild.Bench(spec.job, folder, cache).prepare(archive)
            (folder / READY).write_text(json.dumps({"name": name}))
    return Tree(name, kbuild.Bench(spec.job, folder, cache))


def kept_tree(spec: packaged.Spec, package_sha256: str, cache: Cache) -> Path | None:
    """Return the sources of a packaged kernel as they were built, if they are kept.

    Args:
        spec: the kernel.
        package_sha256: the digest of its source package.
        cache: the cache that keeps trees.
    """
    folder = cache.path(KIND, spec.key(package_sha256))
    return kbuild.Bench(spec.job, folder, cache).tree if (folder / READY).exists() else None


@contextlib.contextmanager
def branch(
    tree: Tree, label: str, areas: Sequence[PurePath] = (VFIO,), *, foreign: bool = False
) -> Iterator[kbuild.Bench]:
    """Yield a copy of a tree to change and build in; it is deleted at the end.

    Args:
        tree: the tree to copy.
        label: the name of the resulting kernel.
        areas: the folders and files that will change; `WHOLE` if unknown.
        foreign: whether the change is untrusted; it is built in a jail only.
    """
    base = tree.bench
    folder = base.cache.open().root / BRANCHES
    folder.mkdir(mode=0o700, exist_ok=True)
    _sweep(folder)
    work = Path(tempfile.mkdtemp(prefix=f".{os.getpid()}-", dir=folder))
    job = replace(base.job, name=label, steps=0)
    made = kbuild.Bench(job, work, base.cache, foreign=foreign)
    try:
        with progress.task(f"Branching off kernel {tree.name}"):
            _link(base.tree, made.tree, areas)
            spared = shutil.ignore_patterns(*(() if WHOLE in areas else IMAGE_ONLY))
            shutil.copytree(base.out, made.out, symlinks=True, ignore=spared)
            _move_tools(base, made)
        yield made
        made.forget_logs()
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _link(source: Path, target: Path, areas: Sequence[PurePath]) -> None:
    """Make `target` a copy of `source`, with separate files in `areas` and the folders above."""
    if WHOLE in areas:
        if source.is_dir():
            skip = shutil.ignore_patterns(kbuild.OUT)
            shutil.copytree(source, target, symlinks=True, copy_function=os.link, ignore=skip)
        elif source.exists():  # a file; a patch may also add one
            os.link(source, target)
        return
    target.mkdir()
    below: dict[str, list[PurePath]] = {}
    for area in areas:
        below.setdefault(area.parts[0], []).append(PurePath(*area.parts[1:]))
    for entry in os.scandir(source) if source.exists() else ():
        if entry.name not in below and entry.name != kbuild.OUT:
            (target / entry.name).symlink_to(entry.path)
    for name, rest in below.items():
        _link(source / name, target / name, rest)


def _move_tools(base: kbuild.Bench, made: kbuild.Bench) -> None:
    """Rewrite the recorded build path of objtool, or make would rebuild it and all objects."""
    moved = {base.out: made.out}
    if (made.tree / OBJTOOL).resolve().is_relative_to(made.tree.resolve()):
        # Otherwise make sees where the link leads.
        moved[base.tree] = made.tree
    for path in (made.out / "tools").rglob(".*.cmd"):
        text = path.read_text()
        for before, after in moved.items():
            text = text.replace(os.fspath(before), os.fspath(after))
        path.write_text(text)


def _module(path: str) -> str:
    return PurePath(path).stem.replace("-", "_")


def _drop_outdated(name: str, cache: Cache) -> None:
    for mark in (cache.root / KIND).glob(f"*/{READY}"):
        if json.loads(mark.read_text()).get("name") == name:
            with cache.lock(KIND, mark.parent.name):
                shutil.rmtree(mark.parent, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Delete the branches of processes that were killed."""
    for work in folder.iterdir():
        if not Path("/proc", work.name.strip(".").partition("-")[0]).exists():
            shutil.rmtree(work, ignore_errors=True)
