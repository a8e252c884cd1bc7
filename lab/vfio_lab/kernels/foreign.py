"""Foreign kernels, which others built, packed for guests.

Guests need drivers for virtio disks, squashfs and overlay before they can load modules from disk. A
kernel that has these built in is packed unchanged. A kernel that has them as modules gets an
initramfs, and of its thousands of modules only those that scenarios may load are packed.
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
RECIPE = 3  # increase it when the product's layout or build changes
LABEL_DIGITS = 8
CATALOGUE = kernels.IMAGES / "distributions.toml"


@dataclass(frozen=True)
class Early:
    """A driver that guests need before they have disks.

    Args:
        module: the module's name.
        option: the option that decides whether it is a module.
        needed: whether guests cannot boot without it.
    """

    module: str
    option: str
    needed: bool


@dataclass(frozen=True)
class Built:
    """The files of a foreign kernel.

    Args:
        name: the kernel's name in messages.
        image: the bzImage.
        config: the configuration.
        modules: the modules.
    """

    name: str
    image: BzImage
    config: Path
    modules: ModuleSet

    @cached_property
    def options(self) -> Mapping[str, str]:
        """The parsed configuration."""
        return kconfig.read_config(self.config.read_text(errors="replace"))

    @cached_property
    def early(self) -> list[Module]:
        """The modules to load before there are disks, in order of dependencies.

        Raises:
            UsageError: guests cannot boot this kernel.
        """
        wanted = []
        for driver in early():
            value = self.options.get(driver.option, "n")
            if driver.needed and (
                value == "n" or (value == "m" and driver.module not in self._places)
            ):
                raise UsageError(
                    f"guests cannot boot kernel {self.modules.release}",
                    expected=f"{driver.module}, which their disks, ports or file systems need",
                    seen=f"CONFIG_{driver.option}={value} and no such module among its own",
                )
            if value == "m":
                wanted.append(driver.module)
        return self.modules.with_needs(wanted)

    @cached_property
    def chosen(self) -> list[Module]:
        """The modules that guests get: all if the kernel was built for guests, else a selection.

        Raises:
            UsageError: a module is damaged, for another kernel, or needs one that is missing.
        """
        return self.modules.with_needs(loadable_modules() if self.early else self._places)

    @property
    def _places(self) -> Iterable[str]:
        return self.modules.places


def early(path: Path = CATALOGUE) -> list[Early]:
    """Return the drivers that guests need before they have disks, in load order."""
    entries = tomllib.loads(path.read_text())["early"]
    return [Early(name, one["option"], one["needed"]) for name, one in entries.items()]


def loadable_modules(path: Path = CATALOGUE) -> list[str]:
    """Return the modules that scenarios may load."""
    return list(tomllib.loads(path.read_text())["guest"])


def packing_digest() -> str:
    """Return the digest of everything but the kernel that determines how it is packed."""
    files = [file_digest(path) for path in (CATALOGUE, earlyboot.SOURCE)]
    return digest({"recipe": RECIPE, "files": files})


def ensure_foreign_kernel(built: Built, cache: Cache) -> Kernel:
    """Return a foreign kernel packed for guests; the cache keeps it for a while.

    Raises:
        UsageError: guests cannot boot it, or its modules are for another kernel.
        HostError: a tool or disk space is missing.
    """
    inputs = {
        "recipe": packing_digest(),
        "name": built.name,
        "files": [file_digest(path) for path in (built.image.path, built.config)],
        "modules": [_sum(module) for module in (*built.early, *built.chosen)],
    }
    key = digest(inputs)[:16]
    label = f"{built.name}+{key[:LABEL_DIGITS]}"

    def build(scratch: Path) -> None:
        with progress.task(f"Packing kernel {label}"):
            pack(built, scratch, cache.root / "logs" / f"kernel-{label}-pack.log")
        write_foreign_facts(built, scratch, {"name": label, "lasting": False})

    entry = cache.obtain(KIND, key, build, inputs=inputs)
    cache.prune(KIND, KEPT, IDLE_S)
    return kernels.read_kernel(entry)


def pack(built: Built, scratch: Path, log: Path) -> None:
    """Create the files that guests boot.

    Args:
        built: the kernel.
        scratch: the product's folder.
        log: the file for the tools' output.

    Raises:
        UsageError: guests cannot boot it, or its modules are for another kernel.
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
    """Write the facts about a kernel to its folder.

    Args:
        built: the kernel.
        scratch: the folder of its files.
        facts: further facts besides release and version.
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
