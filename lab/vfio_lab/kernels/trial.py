"""A packaged kernel with a patch series on top, rebuilt only where the series touches it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vfio_lab.kernels import (
    export,
    kbuild,
    kmodules,
    ktree,
    provenance,
    series,
)
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.kernels.series import Patch
from vfio_lab.util.cache import Cache, digest


def patched(name: str, patches: Sequence[Patch], cache: Cache) -> Kernel:
    """Return a packaged kernel with patches applied.

    Args:
        name: the kernel's name in the catalogue.
        patches: the patches, in order.
        cache: the cache, which keeps the result for a while.

    Raises:
        UsageError: there is no such kernel.
        BuildError: a patch does not apply or compile; names file and line.
    """
    base = kernels.ensure_packaged_kernel(name, cache)
    key = _key(base, patches)
    if (entry := cache.find(export.KIND, key)) is not None:
        return kernels.read_kernel(entry)
    tree = ktree.ensure_tree(name, cache)
    area = ktree.VFIO if modules_suffice(patches) else ktree.WHOLE
    with ktree.branch(tree, _label(name, key), area, foreign=True) as bench:
        return patched_in(bench, tree, patches, cache)


def patched_in(
    bench: kbuild.Bench, tree: ktree.Tree, patches: Sequence[Patch], cache: Cache
) -> Kernel:
    """Return a packaged kernel with patches applied, built in a branch that can be reused.

    Args:
        bench: a branch of the tree; its sources are restored.
        tree: the packaged kernel's tree.
        patches: the patches, in order.
        cache: the cache, which keeps the result for a while.

    Raises:
        BuildError: a patch does not apply or compile; names file and line.
    """
    base = kernels.ensure_packaged_kernel(tree.name, cache)
    key = _key(base, patches)

    def build(scratch: Path) -> None:
        with series.applied(patches, bench.tree, f"kernel {tree.name}"):
            if modules_suffice(patches):
                bench.compile(*tree.modules())
                made = [bench.out / module for module in tree.modules()]
                kmodules.product(base, made, scratch, bench.log("pack"))
            else:
                bench.compile()
                bench.pack(scratch)
        facts = {"release": base.release, "version": base.version, "lasting": False}
        facts |= provenance.base_facts(base) | {"patches": provenance.patch_facts(patches)}
        kernels.write_facts(scratch, {"name": _label(tree.name, key), **facts})

    entry = cache.obtain(export.KIND, key, build)
    cache.prune(export.KIND, export.PRODUCTS_KEPT, export.IDLE_S)
    return kernels.read_kernel(entry)


def _key(base: Kernel, patches: Sequence[Patch]) -> str:
    inputs = {"base": base.digest, "patches": [patch.text for patch in patches]}
    return digest({"recipe": export.RECIPE, **inputs})[:16]


def _label(name: str, key: str) -> str:
    return f"{name}+{key[: export.LABEL_DIGITS]}"


def modules_suffice(patches: Sequence[Patch]) -> bool:
    """Return whether a series touches drivers/vfio only."""
    return all(path.is_relative_to(ktree.VFIO) for path in series.touched(patches))
