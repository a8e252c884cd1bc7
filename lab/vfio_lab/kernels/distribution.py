"""Kernels built by distributions, by name: `debian/bookworm`. Nothing is compiled.

Source: images/distributions.toml lists them.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.kernels import foreign, installed, ksource, packagefile
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util import apt, host, progress
from vfio_lab.util.cache import Cache, digest

KIND = "distribution"


@dataclass(frozen=True)
class Distribution:
    """A distribution's kernel, as listed in the catalogue.

    Args:
        name: the name, such as `debian/bookworm`.
        about: a description.
        source: the packages that contain it.
    """

    name: str
    about: str
    source: ksource.Wanted

    def key(self, packages: tuple[apt.Package, ...]) -> str:
        """Return the cache key of the kernel for certain package versions."""
        return digest(self.inputs(packages))[:16]

    def inputs(self, packages: tuple[apt.Package, ...]) -> dict[str, object]:
        """Return what the cache key is made of."""
        sums = [package.sha256 for package in packages]
        return {"recipe": foreign.packing_digest(), "name": self.name, "packages": sums}


def distribution_catalogue(path: Path = foreign.CATALOGUE) -> Mapping[str, Distribution]:
    """Return the distributions' kernels by name, in the order of the file."""
    data = tomllib.loads(path.read_text())
    follow = data["follow"]["pattern"]
    return {
        name: Distribution(
            name,
            entry["about"],
            ksource.Wanted(
                entry["package"], tuple(entry["suites"]), follow, name.replace("/", "-")
            ),
        )
        for name, entry in data["kernels"].items()
    }


def find_distribution_kernel(name: str, cache: Cache) -> Kernel | None:
    """Return a distribution's kernel if it is in the cache and current, else None."""
    one = distribution_catalogue()[name]
    packages = ksource.pinned_all(cache, one.source)
    entry = cache.find(KIND, one.key(packages)) if packages else None
    return None if entry is None else kernels.read_kernel(entry)


def ensure_distribution_kernel(name: str, cache: Cache) -> Kernel:
    """Return a distribution's kernel; fetch and pack it if necessary.

    Args:
        name: a key of `distribution_catalogue()`.
        cache: the cache that keeps packages and kernels.

    Raises:
        HostError: a tool, disk space or the network is missing.
        UsageError: guests cannot boot it.
    """
    if (kernel := find_distribution_kernel(name, cache)) is not None:
        return kernel
    one = distribution_catalogue()[name]
    host.need("distribution")
    packages, folder = ksource.ensure_packages(cache, one.source)
    log = cache.root / "logs" / f"kernel-{one.source.name}-pack.log"

    def build(scratch: Path) -> None:
        with progress.task(f"Packing kernel {name} ({packages[0].version})"):
            root = scratch / "root"
            packagefile.unpack(sorted(folder.glob(f"*{packagefile.DEB}")), root, log)
            built = installed.find_installed(root, name)
            foreign.pack(built, scratch, log)
            facts = {"package": packages[0].name, "package_version": packages[0].version}
            foreign.write_foreign_facts(
                built, scratch, {"name": name, "suite": packages[0].suite, **facts}
            )
            shutil.rmtree(root)

    inputs = one.inputs(packages)
    return kernels.read_kernel(cache.obtain(KIND, one.key(packages), build, inputs=inputs))


def remove_distribution_kernel(name: str, cache: Cache) -> int:
    """Delete all builds of a distribution's kernel, and return how many there were."""
    keys = [
        key for key in cache.keys(KIND) if kernels.read_kernel(cache.path(KIND, key)).name == name
    ]
    for key in keys:
        cache.remove(KIND, key)
    return len(keys)
