"""Packaged kernels: the catalogue, and how to find, build and remove a kernel.

Source: images/kernels.toml lists them; images/config/ has the requested options and the reasons.
"""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vfio_lab.arch import ARCHITECTURES, X86_64, Architecture
from vfio_lab.errors import BuildError, UsageError
from vfio_lab.kernels import kbuild, kconfig, ksource
from vfio_lab.kernels.fragments import (
    CATALOGUE,
    PLAIN,
    Common,
    Flavour,
    common_options,
    read_flavours,
)
from vfio_lab.spec.changes import Change
from vfio_lab.util import progress, resources
from vfio_lab.util.cache import (
    MANIFEST,
    Cache,
    digest,
    file_digest,
)
from vfio_lab.util.extensions import join, load_extensions

IMAGES = resources.root() / "images"
KIND = "kernel"
FACTS = "kernel.json"
VMLINUX = "vmlinux"
INITRAMFS = "early.cpio"
# Part of every product's key: increase it when the product's layout or build changes.
RECIPE = 1


@dataclass(frozen=True)
class Kernel:
    """A built kernel.

    Args:
        name: `7.3`, or `7.3:debug` for a flavour.
        release: the release, as printed by `uname -r`.
        version: the version in the source's Makefile, `(7, 3, 4)`.
        bzimage: the image that QEMU boots.
        modules: a squashfs whose root is the content of /lib/modules.
        config: the final configuration.
        digest: the digest of the product's content.
        lasting: False for one-off kernels, whose templates are pruned early.
        architecture: the architecture, as printed by `uname -m`.
        history: whether it has a change, by ID; the version table decides the others.
        vmlinux: the same image without its decompressor, if QEMU can start that.
        initramfs: the initramfs that loads the drivers for disks, if they are modules.
    """

    name: str
    release: str
    version: tuple[int, ...]
    bzimage: Path
    modules: Path
    config: Path
    digest: str
    lasting: bool = True
    architecture: str = X86_64.name
    history: tuple[tuple[str, bool], ...] = ()
    vmlinux: Path | None = None
    initramfs: Path | None = None

    def __repr__(self) -> str:
        """Return `Kernel(7.3: 7.3.4-lab)`."""
        return f"{type(self).__name__}({self.name}: {self.release})"

    @cached_property
    def options(self) -> Mapping[str, str]:
        """The final configuration; options that are not set are `n` or missing."""
        return kconfig.read_config(self.config.read_text())

    @property
    def slowness(self) -> float:
        """The factor by which it may be slower than a plain kernel.

        Sanitizers make all of it slower, and a kernel made for every machine boots slowly.
        """
        if self.option("KASAN"):
            return 6.0
        return 3.0 if self.initramfs else 1.0

    @property
    def trusted(self) -> bool:
        """Whether it is made of a distribution's packages alone, whose signatures were checked."""
        return self.lasting

    def option(self, name: str) -> str | None:
        """Return `y`, `m` or the value of an option, None if it is not set.

        Args:
            name: with or without `CONFIG_`.
        """
        value = self.options.get(name.removeprefix("CONFIG_"), "n")
        return None if value == "n" else value.strip('"')

    def carries(self, change: Change) -> bool:
        """Return whether the kernel has a change of the registry."""
        return dict(self.history).get(change.id, change.in_version(self.version))


@dataclass(frozen=True)
class Spec:
    """A kernel, as listed in the catalogue.

    Args:
        name: `7.3`, or `7.3:debug` for a flavour.
        about: the purpose of the kernel.
        series: the series, `(7, 3)`.
        source: the source package.
        steps: the number of lines that its build prints.
        options: the options of every kernel.
        extra: further options of the flavour.
        architecture: the architecture that it is for.
        drivers: the sources of drivers of the lab's own.
    """

    name: str
    about: str
    series: kconfig.Series
    source: ksource.Wanted
    steps: int
    options: tuple[kconfig.Option, ...]
    extra: tuple[kconfig.Option, ...]
    architecture: Architecture = X86_64
    drivers: tuple[Path, ...] = ()

    @cached_property
    def asked(self) -> tuple[kconfig.Option, ...]:
        """The options that are requested for this kernel."""
        return kconfig.merge_options(self.options, self.extra, self.series)

    @cached_property
    def unasked(self) -> tuple[kconfig.Option, ...]:
        """The options that are requested for other series only."""
        every = (*self.options, *self.extra)
        names = {option.name for option in self.asked}
        return tuple(option for option in every if option.name not in names)

    def inputs(self, source_digest: str) -> dict[str, object]:
        """Return what the cache key of this kernel is made of.

        Args:
            source_digest: SHA-256 of the source package.
        """
        drivers = {path.name: file_digest(path) for path in self.drivers}
        return {
            "recipe": RECIPE,
            "name": self.name,
            "architecture": self.architecture.name,
            "source": source_digest,
            "options": {option.name: option.value for option in self.asked},
            **({"drivers": drivers} if drivers else {}),
        }

    def key(self, source_digest: str) -> str:
        """Return the cache key of this kernel for a certain source package."""
        return digest(self.inputs(source_digest))[:16]

    @property
    def job(self) -> kbuild.Job:
        """What to build."""
        return kbuild.Job(
            self.name, self.asked, self.unasked, self.steps, self.architecture, self.drivers
        )


@dataclass(frozen=True)
class Catalogue:
    """All kernels that the lab can build.

    Args:
        default: the name of the kernel that is used by default.
        specs: the kernels by name, flavours included, in the order of the file.
    """

    default: str
    specs: Mapping[str, Spec]

    def spec(self, name: str) -> Spec:
        """Return the entry of a kernel.

        Raises:
            UsageError: there is no kernel of that name.
        """
        if name not in self.specs:
            raise UsageError(
                f"there is no kernel {name!r}", expected=f"one of {', '.join(self.specs)}"
            )
        return self.specs[name]


def kernel_catalogue(folder: Path = IMAGES) -> Catalogue:
    """Read the catalogue with its fragments, and the kernels and flavours of extensions.

    Args:
        folder: the folder with kernels.toml.

    Raises:
        BuildError: a fragment is malformed.
        UsageError: two kernels or two flavours have one name, or a fragment is missing.
    """
    data = tomllib.loads((folder / CATALOGUE).read_text())
    places = {folder: data}
    for path in (extension.folder / IMAGES.name / CATALOGUE for extension in load_extensions()):
        if path.is_file():
            places[path.parent] = tomllib.loads(path.read_text("utf-8"))
    bases = common_options(folder, data)
    found = ((place, read_flavours(place, table)) for place, table in places.items())
    flavours = {PLAIN: Flavour(), **join("flavour", found)}
    specs = (
        (place, _specs(table.get("kernels", {}), flavours, bases))
        for place, table in places.items()
    )
    return Catalogue(data["default"], join("kernel", specs))


def _specs(
    kernels: Mapping[str, Mapping[str, Any]],
    flavours: Mapping[str, Flavour],
    bases: Iterable[Common],
) -> dict[str, Spec]:
    """Return the kernels of a catalogue's table, in every flavour and for every architecture."""
    specs = {}
    for base in bases:
        for series, entry in kernels.items():
            for flavour in base.flavours(flavours):
                chosen = flavours[flavour]
                name = base.name(series, flavour)
                specs[name] = Spec(
                    name=name,
                    about=chosen.about or entry["about"],
                    series=kconfig.series(series),
                    source=ksource.Wanted(entry["package"], tuple(entry["suites"])),
                    steps=entry["steps"].get(name.rpartition(":")[2], entry["steps"][PLAIN]),
                    options=base.options,
                    extra=chosen.options,
                    architecture=base.architecture,
                    drivers=chosen.drivers,
                )
    return specs


def find_packaged_kernel(name: str, cache: Cache) -> Kernel | None:
    """Return a kernel if it is built and current, else None.

    Raises:
        UsageError: there is no such kernel.
    """
    return _find(kernel_catalogue().spec(name), cache)


def ensure_packaged_kernel(name: str, cache: Cache) -> Kernel:
    """Return a kernel; build it if necessary.

    Args:
        name: the name in the catalogue; a flavour follows a colon.
        cache: the cache that keeps kernels.

    Raises:
        UsageError: there is no such kernel.
        HostError: a tool, disk space or the network is missing.
        BuildError: the kernel does not compile, or lacks requested options.
    """
    spec = kernel_catalogue().spec(name)
    if (kernel := _find(spec, cache)) is not None:
        return kernel
    package, archive = ksource.ensure_source(cache, spec.source)
    waiting = contextlib.ExitStack()

    def wait() -> None:
        title = f"Waiting for another run that builds kernel {name}"
        waiting.enter_context(progress.task(title))

    def build(scratch: Path) -> None:
        waiting.close()
        made = kbuild.build(spec.job, archive, scratch, cache)
        facts = {
            "name": spec.name,
            "release": made.release,
            "architecture": spec.architecture.name,
            "version": made.version,
            "package": package.name,
            "package_version": package.version,
            "package_sha256": package.sha256,
            "suite": package.suite,
            "compiler": made.compiler,
        }
        write_facts(scratch, facts)

    with waiting:
        key, inputs = spec.key(package.sha256), spec.inputs(package.sha256)
        return read_kernel(cache.obtain(KIND, key, build, inputs=inputs, on_wait=wait))


def remove_kernel(name: str, cache: Cache) -> int:
    """Delete every build of a kernel, outdated ones too, and return how many there were.

    Raises:
        UsageError: there is no such kernel.
    """
    kernel_catalogue().spec(name)
    keys = [key for key in cache.keys(KIND) if _facts(cache.path(KIND, key)).get("name") == name]
    for key in keys:
        cache.remove(KIND, key)
    return len(keys)


def facts(kernel: Kernel) -> dict[str, Any]:
    """Return the facts that were recorded when a kernel was built."""
    return _facts(kernel.bzimage.parent)


def write_facts(folder: Path, facts: Mapping[str, object]) -> None:
    """Record facts about a product in its folder."""
    (folder / FACTS).write_text(json.dumps(facts, indent=1))


def read_kernel(entry: Path) -> Kernel:
    """Return the kernel in the folder of a build.

    Raises:
        BuildError: the folder was not written by a build.
    """
    known = _facts(entry)
    architecture = ARCHITECTURES.get(str(known.get("architecture", X86_64.name)), X86_64)
    try:
        return Kernel(
            name=str(known["name"]),
            release=str(known["release"]),
            version=tuple(int(part) for part in known["version"]),
            bzimage=entry / architecture.boot_image.name,
            modules=entry / kbuild.MODULES,
            config=entry / kbuild.CONFIG,
            digest=file_digest(entry / MANIFEST),
            lasting=bool(known.get("lasting", True)),
            architecture=architecture.name,
            history=tuple(dict(known.get("history", {})).items()),
            vmlinux=_if_there(entry / VMLINUX),
            initramfs=_if_there(entry / INITRAMFS),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BuildError(f"{entry / FACTS} is not what a build wrote", seen=repr(error)) from error


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _find(spec: Spec, cache: Cache) -> Kernel | None:
    package = ksource.pinned(cache, spec.source)
    entry = None if package is None else cache.find(KIND, spec.key(package.sha256))
    return None if entry is None else read_kernel(entry)


def _facts(entry: Path) -> dict[str, Any]:
    try:
        found = json.loads((entry / FACTS).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
