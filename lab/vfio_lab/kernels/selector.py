"""Any kernel that a user may name: a series, a distribution's, a tree, an installed one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.arch import ARCHITECTURES, X86_64, Architecture, find_architecture
from vfio_lab.errors import UsageError
from vfio_lab.kernels import (
    distribution,
    export,
    foreign,
    installed,
    kbuild,
    khistory,
    ksource,
    packagefile,
)
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.bzimage import KINDS, BzImage
from vfio_lab.kernels.distribution import Distribution
from vfio_lab.kernels.foreign import Built
from vfio_lab.kernels.modfiles import ModuleSet
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.spec.changes import Version
from vfio_lab.util import host, progress
from vfio_lab.util.apt import Package
from vfio_lab.util.cache import Cache

IMAGE = X86_64.boot_image
ORDER = Path("modules.order")
RUNNING = "host"


def all_kernels() -> Mapping[str, kernels.Spec | Distribution]:
    """Return every named kernel: the packaged ones and those of distributions."""
    return {**kernels.kernel_catalogue().specs, **distribution.distribution_catalogue()}


def catalogue_entry(name: str) -> kernels.Spec | Distribution:
    """Return the catalogue entry of a kernel.

    Raises:
        UsageError: there is no kernel of that name.
    """
    known = distribution.distribution_catalogue()
    return known[name] if name in known else kernels.kernel_catalogue().spec(name)


def pinned_kernels(cache: Cache) -> Iterator[tuple[str, Package, float]]:
    """Yield each kernel whose packages were fetched, its pinned package and a time.

    A flavour has the pin of its series. The time is that of the last check for a newer version, in
    seconds since 1970.
    """
    for name, one in all_kernels().items():
        package, since = ksource.pinned(cache, one.source), ksource.looked_up(cache, one.source)
        if package and since and ":" not in name:
            yield name, package, since


def find_kernel(name: str, cache: Cache) -> Kernel | None:
    """Return a named kernel if it is in the cache and current, else None.

    Raises:
        UsageError: there is no kernel of that name.
    """
    if name in distribution.distribution_catalogue():
        return distribution.find_distribution_kernel(name, cache)
    return kernels.find_packaged_kernel(name, cache)


def remove_named_kernel(name: str, cache: Cache) -> int:
    """Delete all builds of a named kernel, outdated ones too; return how many there were.

    Raises:
        UsageError: there is no kernel of that name.
    """
    if name in distribution.distribution_catalogue():
        return distribution.remove_distribution_kernel(name, cache)
    return kernels.remove_kernel(name, cache)


@dataclass(frozen=True)
class AskedKernel:
    """A kernel that a user asks for, not built yet.

    Args:
        name: what `ensure_kernel` takes.
        architecture: what it is for.
    """

    name: str
    architecture: Architecture


def ask_kernel(name: str | None, architecture: str | None) -> AskedKernel:
    """Return the kernel that a user asks for.

    Args:
        name: a name of a catalogue, `host`, or a path; None for the default.
        architecture: a name of its architecture; None for the one that the kernel's name has.

    Raises:
        UsageError: there is no such architecture, or no such kernel for it.
    """
    specs = kernels.kernel_catalogue().specs
    name = name or kernels.kernel_catalogue().default
    if architecture is None:
        return AskedKernel(name, _own_architecture(name))
    wanted = find_architecture(architecture)
    if name not in all_kernels():
        if wanted != X86_64 and is_source(Path(name).expanduser()):
            raise UsageError(
                f"{name} can be built for {X86_64.debian} only",
                seen=f"--lab-arch {architecture}",
                hint=f"kernels for {wanted.debian} are those of `vfio-lab kernel list`",
            )
        return AskedKernel(name, wanted)
    for other in (name, f"{name}:{wanted.debian}"):
        if other in specs and specs[other].architecture == wanted:
            return AskedKernel(other, wanted)
    if name not in specs and wanted == X86_64:
        return AskedKernel(name, wanted)
    there = [known for known, spec in specs.items() if spec.architecture == wanted]
    raise UsageError(
        f"there is no kernel {name!r} for {wanted.debian}", expected=f"one of {', '.join(there)}"
    )


def _own_architecture(name: str) -> Architecture:
    """Return the architecture of a packaged or built kernel, x86-64 for any other name."""
    specs, folder = kernels.kernel_catalogue().specs, Path(name).expanduser()
    if name in specs:
        return specs[name].architecture
    if (folder / kernels.FACTS).exists():
        return ARCHITECTURES[kernels.read_kernel(folder).architecture]
    return X86_64


def ensure_kernel(what: str, cache: Cache, architecture: Architecture | None = None) -> Kernel:
    """Return the kernel that a user means.

    Args:
        what: a name of a catalogue, `host`, or a path.
        cache: the cache that keeps it, if it has to be built or packed.
        architecture: the architecture that it must be for, None for any.

    Raises:
        UsageError: there is no such kernel, a part of it is missing, or it is for another
            architecture.
        HostError: a tool, disk space or the network is missing.
        BuildError: the kernel does not compile.
    """
    made = _ensured(what, cache)
    if architecture is not None and made.architecture != architecture.name:
        raise UsageError(
            f"kernel {made.name} is for another architecture",
            expected=architecture.name,
            seen=made.architecture,
            hint=f"--lab-arch {ARCHITECTURES[made.architecture].debian}",
        )
    return made


def _ensured(what: str, cache: Cache) -> Kernel:
    if what in kernels.kernel_catalogue().specs:
        return kernels.ensure_packaged_kernel(what, cache)
    if what in distribution.distribution_catalogue():
        return distribution.ensure_distribution_kernel(what, cache)
    if what == RUNNING:
        with tempfile.TemporaryDirectory() as scratch:
            return _packed(installed.running_kernel(Path(scratch)), cache)
    path = Path(what).expanduser()
    if not path.exists():
        expected = f"a path, or one of {', '.join((*all_kernels(), RUNNING))}"
        raise UsageError(f"there is no kernel {what!r}", expected=expected)
    return _at(path.resolve(), cache)


def _at(path: Path, cache: Cache) -> Kernel:
    if (path / kernels.FACTS).exists():
        return kernels.read_kernel(path)
    if is_source(path) and not (path / IMAGE).exists():
        return export.ensure_tree_kernel(path, cache)
    if packagefile.is_package(path):
        return _unpacked(path, cache)
    return _packed(find_built(path), cache)


def version_and_changes(what: str, cache: Cache) -> tuple[Version, dict[str, bool]]:
    """Return a kernel's version, and the changes that the history of its sources decides.

    Sources are not built for this.

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
    """Return the kernel built in a tree, installed below a folder, or with files beside an image.

    Raises:
        UsageError: there is no kernel, or a part of it is missing.
    """
    if path.parts[-len(IMAGE.parts) :] == IMAGE.parts:
        path = path.parents[len(IMAGE.parts) - 1]
    if (path / IMAGE).exists():
        return _in_tree(path)
    if path.is_file():
        return installed.kernel_beside(
            path, path.parent.name if path.name == kbuild.BZIMAGE else path.name
        )
    if not any(any(path.glob(glob)) for glob in installed.IMAGES):
        raise UsageError(f"{path} is no kernel", expected=KINDS)
    return installed.find_installed(path, path.name)


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
    image = BzImage.read(tree / IMAGE)
    return Built(tree.name, image, tree / ".config", ModuleSet(image.release, modules))


def _packed(made: Built, cache: Cache) -> Kernel:
    host.need("distribution")
    return foreign.ensure_foreign_kernel(made, cache)


def _unpacked(package: Path, cache: Cache) -> Kernel:
    """Return the kernel in a package and in the packages beside it with its other parts."""
    packages = packagefile.companions(package)
    log = cache.root / "logs" / "kernel-unpack.log"
    with tempfile.TemporaryDirectory(dir=cache.root, prefix=".unpacked.") as scratch:
        with progress.task(f"Unpacking {package.name}"):
            packagefile.unpack(packages, Path(scratch), log)
        return _packed(installed.find_installed(Path(scratch), package.name), cache)
