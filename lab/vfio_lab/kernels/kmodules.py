"""A kernel with some of its modules replaced: same image, another /lib/modules."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vfio_lab.arch import ARCHITECTURES, X86_64, Architecture
from vfio_lab.errors import UsageError
from vfio_lab.kernels import kbuild, modfiles
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util import host, progress
from vfio_lab.util.cache import Cache, digest, file_digest
from vfio_lab.util.process import pipeline

KIND = "modules"
# Entries are about 5 MB. Another run may still boot guests from an older one.
KEPT = 32
IDLE_S = 900.0
LABEL_DIGITS = 8


def found_in(folder: Path) -> list[Path]:
    """Return the modules below a folder, sorted.

    Raises:
        UsageError: there is no such folder, it has no modules, or two have the same name.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} with modules", expected="*.ko files")
    found = sorted(folder.rglob("*.ko"))
    if not found:
        raise UsageError(f"there are no modules in {folder}", expected="files named *.ko")
    names = [path.name for path in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{folder} has more than one {twice[0]}", expected="one of each name")
    return found


def replaced(kernel: Kernel, modules: Iterable[Path], cache: Cache) -> Kernel:
    """Return a kernel with some modules replaced by others of the same names.

    Args:
        kernel: the kernel whose image, configuration and other modules are kept.
        modules: `.ko` files, which may have debugging symbols.
        cache: the cache that keeps a few results.

    Raises:
        UsageError: the kernel has no module of such a name, or a module is for another kernel.
        BuildError: a tool failed.
    """
    given = list(modules)
    sums = {path.name: file_digest(path) for path in given}
    inputs = {"kernel": kernel.digest, "modules": sums}
    key = digest(inputs)[:16]
    label = f"{kernel.name}+{key[:LABEL_DIGITS]}"

    def build(scratch: Path) -> None:
        with progress.task(f"Replacing modules of kernel {kernel.name}"):
            pack_modules(kernel, given, scratch, cache.root / "logs" / f"modules-{key}.log")

    entry = cache.obtain(KIND, key, build, inputs=inputs)
    cache.prune(KIND, KEPT, IDLE_S)
    return replace(
        kernel,
        name=label,
        modules=entry / kbuild.MODULES,
        digest=digest({"kernel": kernel.digest, "modules": key}),
        lasting=False,
    )


def pack_modules(kernel: Kernel, modules: Iterable[Path], scratch: Path, log: Path) -> None:
    """Create the squashfs of a kernel's modules, with some of them replaced.

    Args:
        kernel: the kernel with the original modules.
        modules: the replacements, which have the names of original modules.
        scratch: the folder for the squashfs.
        log: the file for the tools' output.

    Raises:
        UsageError: the kernel has no module of such a name, or a module is for another kernel.
    """
    stage = scratch / "stage"
    folder = stage / "lib/modules"
    folder.parent.mkdir(parents=True)
    _run(log, "unsquashfs", "-no-progress", "-dest", folder, kernel.modules)
    there = {path.name: path for path in (folder / kernel.release).rglob("*.ko")}
    for path in modules:
        if path.name not in there:
            raise UsageError(
                f"kernel {kernel.name} has no module {path.name}",
                expected=f"one of its own, such as {', '.join(sorted(there)[-3:])}",
            )
        _check_release(path, kernel)
        shutil.copyfile(path, there[path.name])
    architecture = ARCHITECTURES[kernel.architecture]
    squash(stage, kernel.release, scratch / kbuild.MODULES, log, architecture)
    shutil.rmtree(stage)


def product(kernel: Kernel, modules: Iterable[Path], scratch: Path, log: Path) -> None:
    """Create a copy of a kernel's product with some modules replaced.

    Args:
        kernel: the kernel, a product in the cache.
        modules: the replacements, which have the names of original modules.
        scratch: the new product's folder.
        log: the file for the tools' output.

    Raises:
        UsageError: the kernel has no module of such a name, or a module is for another kernel.
    """
    pack_modules(kernel, modules, scratch, log)
    link_product(kernel, scratch)


def link_product(kernel: Kernel, scratch: Path) -> None:
    """Link the files of a kernel's product, except its modules, to another product's folder."""
    for name in kbuild.kept(ARCHITECTURES[kernel.architecture]).values():
        os.link(kernel.bzimage.parent / name, scratch / name)


def squash(
    root: Path, release: str, target: Path, log: Path, architecture: Architecture = X86_64
) -> None:
    """Strip the modules below `root`/lib/modules, index them and pack them for guests.

    Signed modules are not stripped: without the signature they would taint a kernel that checks it.

    Args:
        root: the folder that represents a guest's root.
        release: the folder in lib/modules.
        target: the squashfs to create.
        log: the file for the tools' output.
        architecture: the architecture of the modules.

    Raises:
        BuildError: a tool failed.
    """
    folder = root / "lib/modules"
    unsigned = [path for path in sorted(folder.rglob("*.ko")) if not modfiles.signed(path)]
    if unsigned:
        _run(log, f"{host.cross(architecture)}strip", "--strip-debug", *unsigned)
    _run(log, "depmod", "--basedir", root, release)
    _run(log, "mksquashfs", folder, target, *kbuild.SQUASHFS_OPTIONS)


def _run(log: Path, *command: str | Path) -> None:
    pipeline("pack modules", [os.fspath(word) for word in command], log=log)


def _check_release(module: Path, kernel: Kernel) -> None:
    release = modfiles.info(module.read_bytes(), "vermagic").partition(" ")[0]
    if release != kernel.release:
        raise UsageError(
            f"{module} is not for kernel {kernel.name}",
            expected=kernel.release,
            seen=release or "no vermagic: this is no kernel module",
        )
