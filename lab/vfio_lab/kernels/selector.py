"""Any kernel a user may name: packaged, a source tree, a built tree, an image with modules."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.arch import X86_64
from vfio_lab.errors import UsageError
from vfio_lab.kernels import (
    export,
    kbuild,
    kconfig,
    khistory,
    kmodules,
)
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.spec.changes import Version
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache, digest, file_digest

IMAGE = X86_64.boot_image
ORDER = Path("modules.order")
KINDS = "a packaged kernel, a source tree, a built tree, or a bzImage with its modules beside it"
# Documentation/arch/x86/boot.rst: where the version string is, less the boot sector.
HEADER = struct.Struct("<4s8xH")
HEADER_AT = 0x202
BOOT_SECTOR_BYTES = 0x200
LONGEST_VERSION = 256


@dataclass(frozen=True)
class Built:
    """What somebody else has built.

    Args:
        name: what to call it.
        image: the bzImage.
        config: its configuration.
        modules: its modules, by their path below /lib/modules/RELEASE.
    """

    name: str
    image: Path
    config: Path
    modules: dict[Path, Path]


def ensure_kernel(what: str, cache: Cache) -> Kernel:
    """Return the kernel that a user means.

    Args:
        what: a name of the catalogue, or a path.
        cache: where it is kept, if it has to be built or packed.

    Raises:
        UsageError: there is no such thing, or a part of it is missing.
        HostError: a tool, disk space or the network is missing.
        BuildError: it does not compile.
    """
    if what in kernels.kernel_catalogue().specs:
        return kernels.ensure_packaged_kernel(what, cache)
    path = Path(what).expanduser()
    if not path.exists():
        packaged = ", ".join(kernels.kernel_catalogue().specs)
        raise UsageError(f"there is no kernel {what!r}", expected=f"a path, or one of {packaged}")
    path = path.resolve()
    if (path / kernels.FACTS).exists():
        return kernels.read_kernel(path)
    if is_source(path) and not (path / IMAGE).exists():
        return export.ensure_tree_kernel(path, cache)
    return _packed(find_built(path), cache)


def version_and_changes(what: str, cache: Cache) -> tuple[Version, dict[str, bool]]:
    """Return a kernel's version, and what its sources' history says of the registry's changes.

    Sources are not built for that.

    Raises:
        UsageError: there is no such kernel.
    """
    path = Path(what).expanduser().resolve()
    if is_source(path):
        return kbuild.version(path), khistory.known(path)
    made = ensure_kernel(what, cache)
    return made.version, dict(made.history)


def is_source(path: Path) -> bool:
    """Return whether a folder is the top of a kernel's sources."""
    return (path / "Makefile").exists() and (path / "Kconfig").exists()


def find_built(path: Path) -> Built:
    """Return what was built in a tree, in a build folder of one, or lies beside an image.

    Raises:
        UsageError: there is nothing, or a part of it is missing.
    """
    if path.parts[-len(IMAGE.parts) :] == IMAGE.parts:
        path = path.parents[len(IMAGE.parts) - 1]
    if (path / IMAGE).exists():
        return _in_tree(path)
    image = path if path.is_file() else path / kbuild.BZIMAGE
    if not image.exists():
        raise UsageError(f"{path} is no kernel", expected=KINDS)
    return _beside(image)


def release(image: Path) -> str:
    """Return what `uname -r` will say, read from a bzImage.

    Raises:
        UsageError: the file is no bzImage.
    """
    with image.open("rb") as file:
        file.seek(HEADER_AT)
        head = file.read(HEADER.size)
        magic, offset = HEADER.unpack(head) if len(head) == HEADER.size else (b"", 0)
        if magic != b"HdrS":
            raise UsageError(f"{image} is no bzImage", expected=KINDS)
        file.seek(BOOT_SECTOR_BYTES + offset)
        text = file.read(LONGEST_VERSION).partition(b"\0")[0].decode(errors="replace")
    return text.partition(" ")[0]


def _in_tree(tree: Path) -> Built:
    for name, remedy in ((ORDER, "modules"), (Path(".config"), "all")):
        if not (tree / name).exists():
            raise UsageError(
                f"{tree} was not built to the end",
                seen=f"no {name}",
                hint=f"make -C {tree} {remedy}",
            )
    modules = {}
    for line in (tree / ORDER).read_text().split():
        # The build system's own list: of modules before 6.4, of their objects since.
        place = Path(line.removeprefix("kernel/")).with_suffix(".ko")
        modules[Path("kernel") / place] = tree / place
    absent = [path for path in modules.values() if not path.exists()]
    if absent:
        raise UsageError(
            f"{tree} was not built to the end",
            seen=f"no {absent[0].relative_to(tree)}",
            hint=f"make -C {tree} modules",
        )
    modules |= {Path(path.name): path for path in (tree / ORDER, *tree.glob("modules.builtin*"))}
    return Built(tree.name, tree / IMAGE, tree / ".config", modules)


def _beside(image: Path) -> Built:
    name = release(image)
    configs = [image.parent / one for one in ("config", ".config", f"config-{name}")]
    config = next((path for path in configs if path.is_file()), None)
    if config is None:
        raise UsageError(f"{image} has no configuration (config) beside it", expected=KINDS)
    for folder in _module_folders(image.parent, name):
        if any(folder.rglob("*.ko")):
            files = [path for path in folder.rglob("*") if path.is_file()]
            return Built(
                image.parent.name, image, config, {one.relative_to(folder): one for one in files}
            )
    raise UsageError(f"{image} has no modules (modules/{name}) beside it", expected=KINDS)


def _module_folders(beside: Path, name: str) -> Iterator[Path]:
    """Yield where modules_install puts modules, told to install into any of the usual places."""
    for top in ("lib/modules", "modules/lib/modules", "modules"):
        yield beside / top / name
    yield beside / "modules"


def _packed(built: Built, cache: Cache) -> Kernel:
    known = release(built.image)
    files = (built.image, built.config, *built.modules.values())
    sums = {str(path): file_digest(path) for path in files}
    key = digest({"recipe": export.RECIPE, "files": sums})[:16]
    label = f"{built.name}+{key[: export.LABEL_DIGITS]}"

    def build(scratch: Path) -> None:
        root = scratch / "stage"
        with progress.task(f"Packing kernel {label}"):
            for place, path in built.modules.items():
                target = root / "lib/modules" / known / place
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            log = cache.root / "logs" / f"kernel-{label}-pack.log"
            kmodules.squash(root, known, scratch / kbuild.MODULES, log)
        shutil.rmtree(root)
        shutil.copyfile(built.image, scratch / kbuild.BZIMAGE)
        shutil.copyfile(built.config, scratch / kbuild.CONFIG)
        version = kconfig.series(known.partition("-")[0].partition("+")[0])
        facts = {"name": label, "release": known, "version": version, "lasting": False}
        kernels.write_facts(scratch, facts)

    return kernels.read_kernel(cache.obtain(export.KIND, key, build))
