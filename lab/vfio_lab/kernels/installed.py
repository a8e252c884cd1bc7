"""Installed kernels: in /boot and /lib/modules, of this host or of an unpacked package."""

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
    """Return the kernel that runs on this host.

    Args:
        scratch: the folder for the configuration if only the running kernel has it.
        root: the root of the file system.

    Raises:
        UsageError: the kernel's files are missing, as in a container or on a machine that boots
            from elsewhere.
    """
    release = os.uname().release
    images = (f"boot/vmlinuz-{release}", *(f"{modules}/{release}/vmlinuz" for modules in MODULES))
    image = next((root / name for name in images if (root / name).exists()), None)
    if image is None:
        raise UsageError(
            f"the image of this host's kernel {release} is not here",
            expected=f"{root / images[0]}",
            seen="no such file; is this a container?",
            hint="name a kernel's package or a distribution, see docs/kernels.md",
        )
    return kernel_beside(image, "host", scratch)


def find_installed(root: Path, name: str) -> Built:
    """Return the only kernel below a folder.

    Args:
        root: the folder that contains `boot`, `lib/modules` or the image itself.
        name: the kernel's name in messages.

    Raises:
        UsageError: there is no kernel, more than one, or a part is missing.
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
    """Return the kernel of an image with the configuration and modules that belong to it.

    Args:
        path: the image.
        name: the kernel's name in messages.
        scratch: the folder for the configuration if only the running kernel has it.

    Raises:
        UsageError: the file is not a kernel image, or configuration or modules are missing.
    """
    image = BzImage.read(path)
    tops = path.absolute().parents[:DEPTH]  # possible roots of its file system
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
        if any(SUFFIX.search(path.name) for path in folder.rglob("*.ko*")):
            return ModuleSet.installed(folder, release)
    others = sorted(
        {path.name for top in tops for place in MODULES for path in (top / place).glob("*/")}
    )
    raise UsageError(
        f"{image.path} has no modules beside it",
        expected=f"lib/modules/{release}",
        seen=f"modules of {', '.join(others)}" if others else "none",
    )
