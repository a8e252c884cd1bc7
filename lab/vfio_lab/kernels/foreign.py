"""Kernels that somebody else built, made into what guests boot.

Guests have virtio disks, a squashfs and an overlay before any module can be loaded from them. A
kernel that has all that built in is packed as it is. One that has modules instead gets an
initramfs, and of its thousands of modules those that scenarios may load.
"""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vfio_lab.errors import UsageError
from vfio_lab.kernels import earlyboot, kbuild, kconfig, kmodules
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.bzimage import BzImage
from vfio_lab.kernels.modfiles import Module, ModuleSet
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache, digest, file_digest

KIND = "foreign"
KEPT = 24
IDLE_S = 900.0
RECIPE = 3  # raise when the product is laid out or made differently
LABEL_DIGITS = 8
CATALOGUE = kernels.IMAGES / "distributions.toml"


@dataclass(frozen=True)
class Early:
    """A driver that guests need before they have disks.

    Args:
        module: its name as a module.
        option: what decides whether it is one.
        needed: whether no guest boots without it.
    """

    module: str
    option: str
    needed: bool


@dataclass(frozen=True)
class Built:
    """What somebody else has built.

    Args:
        name: what to call it.
        image: the bzImage.
        config: its configuration.
        modules: its modules.
    """

    name: str
    image: BzImage
    config: Path
    modules: ModuleSet

    @cached_property
    def options(self) -> Mapping[str, str]:
        """Its configuration, read."""
        return kconfig.read_config(self.config.read_text(errors="replace"))

    @cached_property
    def early(self) -> list[Module]:
        """What must be loaded before there are disks, each after what it needs.

        Raises:
            UsageError: guests cannot boot this kernel.
        """
        wanted = []
        for each in early():
            value = self.options.get(each.option, "n")
            if each.needed and (value == "n" or (value == "m" and each.module not in self._places)):
                raise UsageError(
                    f"guests cannot boot kernel {self.modules.release}",
                    expected=f"{each.module}, which their disks, ports or file systems need",
                    seen=f"CONFIG_{each.option}={value} and no such module among its own",
                )
            if value == "m":
                wanted.append(each.module)
        return self.modules.with_needs(wanted)

    @cached_property
    def chosen(self) -> list[Module]:
        """The modules that guests get: all of a kernel made for them, else a choice.

        Raises:
            UsageError: a module is damaged, for another kernel, or needs one that is missing.
        """
        return self.modules.with_needs(loadable_modules() if self.early else self._places)

    @property
    def _places(self) -> Iterable[str]:
        return self.modules.places


def early(path: Path = CATALOGUE) -> list[Early]:
    """Return what guests need before they have disks, in the order in which it is loaded."""
    entries = tomllib.loads(path.read_text())["early"]
    return [Early(name, one["option"], one["needed"]) for name, one in entries.items()]


def loadable_modules(path: Path = CATALOGUE) -> list[str]:
    """Return the modules that scenarios may load."""
    return list(tomllib.loads(path.read_text())["guest"])


def packing_digest() -> str:
    """Return the digest of all that decides how a kernel is packed, but for the kernel."""
    files = [file_digest(path) for path in (CATALOGUE, earlyboot.SOURCE)]
    return digest({"recipe": RECIPE, "files": files})


def ensure_foreign_kernel(built: Built, cache: Cache) -> Kernel:
    """Return somebody else's kernel as guests boot it; it is kept for a while.

    Raises:
        UsageError: guests cannot boot it, or its modules are not its own.
        HostError: a tool or disk space is missing.
    """
    inputs = {
        "recipe": packing_digest(),
        "name": built.name,
        "files": [file_digest(path) for path in (built.image.path, built.config)],
        "modules": [_sum(each) for each in (*built.early, *built.chosen)],
    }
    key = digest(inputs)[:16]
    label = f"{built.name}+{key[:LABEL_DIGITS]}"

    def build(scratch: Path) -> None:
        with progress.task(f"Packing kernel {label}"):
            pack(built, scratch, cache.root / "logs" / f"kernel-{label}-pack.log")
        write_foreign_facts(built, scratch, {"name": label, "lasting": False})

    entry = cache.obtain(KIND, key, build)
    cache.prune(KIND, KEPT, IDLE_S)
    return kernels.read_kernel(entry)


def pack(built: Built, scratch: Path, log: Path) -> None:
    """Lay out what guests boot.

    Args:
        built: the kernel.
        scratch: the product's folder.
        log: what the tools say.

    Raises:
        UsageError: guests cannot boot it, or its modules are not its own.
        HostError: a tool is missing.
        BuildError: a tool failed.
    """
    loaded_early = built.early
    stage = scratch / "stage"
    _stage(built.chosen, built.modules.lists, stage / "lib/modules" / built.modules.release)
    kmodules.squash(stage, built.modules.release, scratch / kbuild.MODULES, log)
    shutil.rmtree(stage)
    shutil.copyfile(built.image.path, scratch / kbuild.BZIMAGE)
    shutil.copyfile(built.config, scratch / kbuild.CONFIG)
    if loaded_early:
        init = earlyboot.compiled(scratch / "init", log)
        archive = earlyboot.initramfs(init, loaded_early)
        (scratch / kernels.INITRAMFS).write_bytes(archive)
        if (vmlinux := built.image.vmlinux()) is not None:
            (scratch / kernels.VMLINUX).write_bytes(vmlinux)


def write_foreign_facts(built: Built, scratch: Path, facts: Mapping[str, object]) -> None:
    """Write down what a kernel is, beside it.

    Args:
        built: the kernel.
        scratch: the folder of its files.
        facts: what to write besides its release and version.
    """
    version = built.image.version
    kernels.write_facts(scratch, {"release": built.modules.release, "version": version, **facts})


def _stage(modules: Sequence[Module], lists: Mapping[Path, Path], folder: Path) -> None:
    for module in modules:
        target = folder / module.place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(module.data)
    folder.mkdir(parents=True, exist_ok=True)
    for place, path in lists.items():
        shutil.copyfile(path, folder / place)


def _sum(module: Module) -> list[str]:
    return [str(module.place), hashlib.sha256(module.data).hexdigest()]
