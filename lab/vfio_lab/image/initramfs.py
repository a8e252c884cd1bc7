"""What a guest inside the guest boots: a few programs of the image and the kernel's NIC drivers.

It is in the kernel's memory from the start. Each access to an emulated disk would be an exit
to the outer guest, and one in some thousands of them ends QEMU's emulation of SVM: an interrupt
that was delivered is reported as pending still ("KVM internal error. Suberror: 3").
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vfio_lab.arch import X86_64
from vfio_lab.image.rootfs import IMAGES, Image, recipe
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.util import host
from vfio_lab.util.cache import Cache, digest, file_digest
from vfio_lab.util.process import pipeline

KIND = "initramfs"
NAME = "initramfs"
RECIPE = 2  # raise when it is put together differently
INIT = IMAGES / "inner"
PROGRAMS = ("usr/bin/busybox", "usr/sbin/ethtool")
# What ethtool is linked with.
LIBRARIES = f"usr/lib/{X86_64.multiarch}"
LINKED = (
    f"usr/lib64/{X86_64.loader}",
    *(f"{LIBRARIES}/{name}" for name in (X86_64.loader, "libc.so.6", "libm.so.6", "libmnl.so.0*")),
)
# Of the modules, the drivers that an inner guest may load, and what they need.
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
    """Return the archive for an image and a kernel, putting it together if need be.

    Args:
        cache: where it is kept.
        image: where programs come from; it must have them.
        kernel: whose modules it has.

    Raises:
        HostError: squashfs-tools or cpio are missing.
        BuildError: the image or the modules cannot be unpacked.
    """
    inputs = {"image": image.digest, "kernel": kernel.digest, "init": file_digest(INIT)}
    key = digest({"recipe": RECIPE, **inputs})[:16]

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

    return cache.obtain(KIND, key, build) / NAME


def pack_cpio(tree: Path, archive: Path, epoch: int, log: Path) -> None:
    """Write a folder as the kernel reads it at boot; the same content makes the same bytes.

    Args:
        tree: the folder; what is in it belongs to nobody else and may be executed.
        archive: the file to write.
        epoch: the time stamp of all that is in it, seconds since 1970.
        log: file for what the tools say.

    Raises:
        BuildError: it cannot be written.
    """
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    pipeline(
        "pack what a guest inside the guest boots",
        ["find", ".", "-mindepth", "1", "-print0"],
        ["sort", "--zero-terminated"],
        [*ARCHIVE, "--quiet", f"--file={archive}"],
        log=log,
        cwd=tree,
    )


def _unpack(squashfs: Path, target: Path, log: Path, *wanted: str) -> None:
    command = ["unsquashfs", "-no-progress", "-no-xattrs", "-d", os.fspath(target)]
    pipeline(
        "unpack for a guest inside the guest", [*command, os.fspath(squashfs), *wanted], log=log
    )
