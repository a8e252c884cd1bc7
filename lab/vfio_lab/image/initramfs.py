"""The initramfs of nested guests: a few programs of the image and the kernel's NIC drivers.

An initramfs needs no disk. Each access to an emulated disk would be an exit to the outer guest, and
about one exit in several thousand breaks QEMU's emulation of SVM: an interrupt that was delivered
is reported as still pending ("KVM internal error. Suberror: 3").
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vfio_lab.arch import X86_64
from vfio_lab.image.recipe import IMAGES
from vfio_lab.image.rootfs import Image, recipe
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util import host
from vfio_lab.util.cache import Cache, digest, file_digest
from vfio_lab.util.process import pipeline

KIND = "initramfs"
NAME = "initramfs"
RECIPE = 2  # increase it when the layout changes
INIT = IMAGES / "inner"
PROGRAMS = ("usr/bin/busybox", "usr/sbin/ethtool")
# The libraries that ethtool is linked with.
LIBRARIES = f"usr/lib/{X86_64.multiarch}"
LINKED = (
    f"usr/lib64/{X86_64.loader}",
    *(f"{LIBRARIES}/{name}" for name in (X86_64.loader, "libc.so.6", "libm.so.6", "libmnl.so.0*")),
)
# The drivers that a nested guest may load, and their dependencies.
DRIVERS = (
    "*/modules.*",
    "*/kernel/drivers/dca",
    "*/kernel/drivers/i2c",
    "*/kernel/drivers/net",
)
FOLDERS = ("dev", "proc", "sys")
LINKS = {"lib": "usr/lib", "lib64": "usr/lib64"}
ARCHIVE = ("cpio", "--create", "--format=newc", "--null", "--owner=0:0", "--reproducible")


def ensure_initramfs(cache: Cache, image: Image, kernel: Kernel) -> Path:
    """Return the archive for an image and a kernel; create it if necessary.

    Args:
        cache: the cache that keeps the archive.
        image: the image with the programs; it must contain them.
        kernel: the kernel whose modules go into the archive.

    Raises:
        HostError: squashfs-tools or cpio is missing.
        BuildError: the image or the modules cannot be unpacked.
    """
    inputs = {
        "recipe": RECIPE,
        "image": image.digest,
        "kernel": kernel.digest,
        "init": file_digest(INIT),
    }
    key = digest(inputs)[:16]

    def build(scratch: Path) -> None:
        host.need("image")
        tree, log = scratch / "tree", cache.root / "logs" / f"initramfs-{key}.log"
        _unpack(image.path, tree, log, *PROGRAMS, *LINKED)
        _unpack(kernel.modules, tree / "usr/lib/modules", log, *DRIVERS)
        shutil.copyfile(INIT, tree / "init")
        for name in FOLDERS:
            (tree / name).mkdir()
        for name, target in LINKS.items():
            (tree / name).symlink_to(target)
        pack_cpio(tree, scratch / NAME, recipe(image.name).epoch, log)
        shutil.rmtree(tree)

    return cache.obtain(KIND, key, build, inputs=inputs) / NAME


def pack_cpio(tree: Path, archive: Path, epoch: int, log: Path) -> None:
    """Write a folder to a reproducible cpio archive that the kernel unpacks at boot.

    Args:
        tree: the folder; the modes and times of its files are changed, all become executable.
        archive: the file to write.
        epoch: the time stamp of all entries, in seconds since 1970.
        log: the file for the tools' output.

    Raises:
        BuildError: the archive cannot be written.
    """
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    pipeline(
        "pack the initramfs of a nested guest",
        ["find", ".", "-mindepth", "1", "-print0"],
        ["sort", "--zero-terminated"],
        [*ARCHIVE, "--quiet", f"--file={archive}"],
        log=log,
        cwd=tree,
    )


def _unpack(squashfs: Path, target: Path, log: Path, *wanted: str) -> None:
    command = ["unsquashfs", "-no-progress", "-no-xattrs", "-d", os.fspath(target)]
    pipeline("unpack files for a nested guest", [*command, os.fspath(squashfs), *wanted], log=log)
