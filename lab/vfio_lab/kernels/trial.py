"""A kernel with a patch series on top, rebuilt only where the series touches it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vfio_lab.kernels import export, kbuild, kmodules, kselftests, ktree, patching, provenance
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.base import Base
from vfio_lab.kernels.csource import FileChange
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.kernels.patching import PatchedFiles
from vfio_lab.kernels.series import Patch
from vfio_lab.util.cache import Cache, digest

# Folders and files that make does not read.
UNBUILT = tuple(map(PurePath, ("Documentation", "MAINTAINERS", "tools/testing")))


@dataclass(frozen=True)
class KernelPair:
    """A kernel without and with a patch series.

    Args:
        before: the kernel without the series.
        after: the kernel with it.
    """

    before: Kernel
    after: Kernel


@dataclass(frozen=True)
class SourceChange:
    """A change of a kernel's sources.

    Args:
        patches: the patches, in order.
        files: what they make of the files that they touch.
        selftests: whether the tree's selftests are built too.
    """

    patches: Sequence[Patch]
    files: PatchedFiles
    selftests: bool = False


def ensure_pair(base: Base, patches: Sequence[Patch], cache: Cache) -> KernelPair:
    """Return the kernel of a base, and the same kernel with patches.

    Args:
        base: what the patches are applied to.
        patches: the patches, in order.
        cache: the cache, which keeps both for a while.

    Raises:
        BuildError: a patch does not apply or compile, or the base does not; names file and line.
    """
    with base.sources(cache) as tree:
        files = patching.patched_files(patches, tree, base.name, base.objects)
        before = base.kernel(tree, cache)
        has_tests = bool(kselftests.programs(before.bzimage.parent))
        wants_tests = has_tests or kselftests.concern(files)
        key = _key(before, patches, files)
        entry = cache.find(export.KIND, key)
        if entry is not None and wants_tests == has_tests:
            return KernelPair(before, kernels.read_kernel(entry))
        with base.built(tree, cache) as built:
            if wants_tests:
                before = _with_selftests(before, built.bench, cache)
            change = SourceChange(patches, files, selftests=wants_tests)
            unbuilt = [path for path in files if not is_built(path)]
            areas = [ktree.VFIO, *unbuilt] if modules_suffice(files) else [ktree.WHOLE]
            with ktree.branch(built, _label(built, key), areas, foreign=True) as bench:
                return KernelPair(before, patched_in(bench, built, before, change, cache))


def patched_in(
    bench: kbuild.Bench, tree: ktree.Tree, base: Kernel, change: SourceChange, cache: Cache
) -> Kernel:
    """Return a kernel with patches applied, built in a branch that can be reused.

    Args:
        bench: a branch of the tree; its sources are restored.
        tree: the tree of the kernel without the patches.
        base: that kernel.
        change: the patches, and what they make of the tree's files.
        cache: the cache, which keeps the result for a while.

    Raises:
        BuildError: it does not compile; names file and line.
    """
    key = _key(base, change.patches, change.files)

    def build(scratch: Path) -> None:
        try:
            patching.write_files(change.files, bench.tree)
            _make(bench, tree, base, scratch, modules=modules_suffice(change.files))
            if change.selftests:
                kselftests.add_selftests(bench, scratch)
        finally:
            patching.restore_files(change.files, tree.bench.tree, bench.tree)
        shutil.copyfile(bench.log("compile"), scratch / kbuild.LOG)
        facts = {"release": bench.release, "version": base.version, "lasting": False}
        facts |= provenance.base_facts(base) | provenance.jail_facts()
        facts |= {"patches": provenance.patch_facts(change.patches)}
        kernels.write_facts(scratch, {"name": _label(tree, key), **facts})

    entry = cache.obtain(export.KIND, key, build)
    cache.prune(export.KIND, export.PRODUCTS_KEPT, export.IDLE_S)
    return kernels.read_kernel(entry)


def modules_suffice(files: Iterable[PurePath]) -> bool:
    """Return whether all files that kernels are built from are below drivers/vfio."""
    return all(path.is_relative_to(ktree.VFIO) for path in files if is_built(path))


def is_built(path: PurePath) -> bool:
    """Return whether a kernel is built from a file of its tree."""
    return not any(path.is_relative_to(place) for place in UNBUILT)


def changed_files(base: Base, patches: Sequence[Patch], cache: Cache) -> list[FileChange]:
    """Return what patches make of the files of a base; nothing is built.

    Args:
        base: what the patches are applied to.
        patches: the patches, in order.
        cache: the cache, which keeps sources.

    Raises:
        BuildError: a patch does not apply.
    """
    with base.sources(cache) as tree:
        files = patching.patched_files(patches, tree, base.name, base.objects)
        return patching.file_changes(files, tree)


def _with_selftests(kernel: Kernel, bench: kbuild.Bench, cache: Cache) -> Kernel:
    """Return a kernel with the selftests of its tree beside it."""
    folder = kernel.bzimage.parent
    if kselftests.programs(folder):
        return kernel
    key = digest({"kernel": kernel.digest, "selftests": kselftests.RECIPE})[:16]

    def build(scratch: Path) -> None:
        kmodules.link_product(kernel, scratch)
        (scratch / kbuild.MODULES).hardlink_to(kernel.modules)
        kselftests.add_selftests(bench, scratch)
        facts = kernels.facts(kernel) | {"lasting": False}
        kernels.write_facts(scratch, facts)

    return kernels.read_kernel(cache.obtain(export.KIND, key, build))


def _make(
    bench: kbuild.Bench, tree: ktree.Tree, base: Kernel, product: Path, *, modules: bool
) -> None:
    if modules:
        targets = tree.modules()
        bench.compile(*targets)
        made = [bench.out / module for module in targets]
        kmodules.product(base, made, product, bench.log("pack"))
    else:
        bench.compile()
        bench.pack(product)


def _key(base: Kernel, patches: Sequence[Patch], files: PatchedFiles) -> str:
    # The kernel says which patches it has, so the same change by another patch is another kernel.
    inputs = {
        "base": base.digest,
        "files": patching.files_digest(files),
        "patches": provenance.patch_facts(patches),
    }
    return digest({"recipe": export.RECIPE, **inputs})[:16]


def _label(tree: ktree.Tree, key: str) -> str:
    return f"{tree.name.partition('+')[0]}+{key[: export.LABEL_DIGITS]}"
