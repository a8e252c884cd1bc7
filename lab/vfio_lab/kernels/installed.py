"""Kernels as they are installed: in /boot and /lib/modules, here or in an unpacked package."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

from vfio_lab.errors import UsageError
from vfio_lab.kernels.bzimage import BzImage
from vfio_lab.kernels.foreign import Built
from vfio_lab.kernels.modfiles import SUFFIX, ModuleSet

ROOT = Path("/")
RUNNING_CONFIG = Path("/proc/config.gz")
# Below the top of a root file system; `make modules_install` may have been told any of the last.
MODULES = ("usr/lib/modules", "lib/modules", "modules/lib/modules", "modules")
DEPTH = 5  # ROOT/usr/lib/modules/RELEASE/vmlinuz
IMAGES = ("boot/vmlinuz-*", "*/modules/*/vmlinuz", "*/*/modules/*/vmlinuz", "vmlinuz*", "bzImage")


def running_kernel(scratch: Path, root: Path = ROOT) -> Built:
    """Return the kernel that runs here.

    Args:
        scratch: where its configuration is written if only the kernel itself has it.
        root: the top of the file system.

    Raises:
        UsageError: its files are not here, as in a container or on a machine that boots from
            elsewhere.
    """
    release = os.uname().release
    images = (f"boot/vmlinuz-{release}", *(f"{each}/{release}/vmlinuz" for each in MODULES))
    image = next((root / each for each in images if (root / each).exists()), None)
    if image is None:
        raise UsageError(
            f"the image of this host's kernel {release} is not here",
            expected=f"{root / images[0]}",
            seen="no such file; is this a container?",
            hint="name a kernel's package or a distribution, see docs/kernels.md",
        )
    return kernel_beside(image, "host", scratch)


def find_installed(root: Path, name: str) -> Built:
    """Return the one kernel below a folder.

    Args:
        root: has `boot` or `lib/modules` in it, or the image itself.
        name: what to call it.

    Raises:
        UsageError: there is none, more than one, or a part is missing.
    """
    images = sorted({path for glob in IMAGES for path in root.glob(glob) if path.is_file()})
    releases = {BzImage.read(path).release: path for path in images}
    if len(releases) != 1:
        raise UsageError(
            f"there is no kernel in {name}" if not releases else f"{name} has several kernels",
            expected="one vmlinuz with its modules",
            seen=", ".join(sorted(releases)) or "no vmlinuz",
            hint="name the vmlinuz itself" if releases else None,
        )
    return kernel_beside(next(iter(releases.values())), name)


def kernel_beside(path: Path, name: str, scratch: Path | None = None) -> Built:
    """Return the kernel of an image whose configuration and modules are where they belong.

    Args:
        path: the image.
        name: what to call it.
        scratch: where the running kernel's configuration is written if nothing else has it.

    Raises:
        UsageError: the image is none, or the rest is missing.
    """
    image = BzImage.read(path)
    tops = path.absolute().parents[:DEPTH]  # where the root of its file system may be
    return Built(name, image, _config(image, tops, scratch), _modules(image, tops))


def _config(image: BzImage, tops: Sequence[Path], scratch: Path | None) -> Path:
    release = image.release
    folders = [image.path.parent, *(top / place / release for top in tops for place in MODULES)]
    names = (f"config-{release}", "config", ".config")
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            return path
    if scratch is not None and RUNNING_CONFIG.exists() and release == os.uname().release:
        path = scratch / "config"
        path.write_bytes(gzip.decompress(RUNNING_CONFIG.read_bytes()))
        return path
    raise UsageError(
        f"{image.path} has no configuration beside it", expected=f"config-{release} or config"
    )


def _modules(image: BzImage, tops: Sequence[Path]) -> ModuleSet:
    release = image.release
    places = [top / place / release for top in tops for place in MODULES]
    places.append(image.path.parent / "modules")
    for folder in places:
        if any(SUFFIX.search(each.name) for each in folder.rglob("*.ko*")):
            return ModuleSet.installed(folder, release)
    others = sorted(
        {path.name for top in tops for place in MODULES for path in (top / place).glob("*/")}
    )
    raise UsageError(
        f"{image.path} has no modules beside it",
        expected=f"lib/modules/{release}",
        seen=f"modules of {', '.join(others)}" if others else "none",
    )
