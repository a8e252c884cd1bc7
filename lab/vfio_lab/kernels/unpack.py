"""Unpack the sources of a kernel from Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from vfio_lab.arch import X86_64
from vfio_lab.errors import BuildError
from vfio_lab.util import progress
from vfio_lab.util.process import environment

Run = Callable[[list[str], Callable[[str], None]], None]

TARBALL = ".tar.xz"
SAMPLES = "samples/vfio-mdev"
TAR_RECORD_BYTES = 10240
TAR_RECORDS_A_NOTE = 2000
# Files, from the top of the tree, that no kernel is compiled from, and those that need an
# option: more than half of all, which take long to write and to delete. A star matches any path.
# Kconfig files and makefiles of every folder stay.
NEVER = (
    "arch/*.dts*",
    "Documentation/*.rst",
    "Documentation/*.yaml",
    "Documentation/*.svg",
    "tools/perf/*",
)
OPTIONAL = {
    "DRM": "drivers/gpu/*.[ch]",
    "INFINIBAND": "drivers/infiniband/*.[ch]",
    "MEDIA_SUPPORT": "drivers/media/*.[ch]",
    "WLAN": "drivers/net/wireless/*.[ch]",
    "SCSI": "drivers/scsi/*.[ch]",
    "STAGING": "drivers/staging/*.[ch]",
    "USB_SUPPORT": "drivers/usb/*.[ch]",
    "SOUND": "sound/*.[ch]",
}


def unneeded(asked: Collection[str], architecture: str = X86_64.kernel) -> tuple[str, ...]:
    """Return patterns of paths that no kernel with these options is compiled from.

    Args:
        asked: the names of the requested options.
        architecture: the kernel's name of the architecture, a folder below `arch/`.
    """
    others = f"arch/[!{architecture[0]}]*/*.[chS]"
    return (others, *NEVER, *(pattern for name, pattern in OPTIONAL.items() if name not in asked))


def unpack_source(
    archive: Path, tree: Path, run: Run, title: str, without: Sequence[str] = ()
) -> None:
    """Unpack the tarball in a source package.

    Args:
        archive: the package.
        tree: the new folder for the sources.
        run: runs a tool, and calls back with each line of its output.
        title: what to call the step.
        without: patterns of paths in the tree to leave out.

    Raises:
        BuildError: there is no tarball in the package, or a tool failed.
    """
    tree.mkdir(parents=True)
    package = tree.with_name("package")
    with progress.task(title) as task:
        run(["dpkg-deb", "--extract", os.fspath(archive), os.fspath(package)], _ignore)
        tarball = next(package.glob(f"usr/src/linux-source-*{TARBALL}"), None)
        if tarball is None:
            raise BuildError(f"{archive} is no kernel source", expected="a tarball in usr/src")
        task.update(0, _records(tarball))

        def follow(line: str) -> None:
            done = line.removeprefix("tar: ")
            if done.isdecimal():
                task.update(int(done))

        run(_tar(tarball, tree, without), follow)
    shutil.rmtree(package)


def _tar(tarball: Path, tree: Path, without: Sequence[str]) -> list[str]:
    top = tarball.name.removesuffix(TARBALL)
    return [
        "tar",
        "--extract",
        f"--file={tarball}",
        "--use-compress-program=xz --threads=0",
        f"--directory={tree}",
        "--strip-components=1",
        "--no-same-owner",
        f"--checkpoint={TAR_RECORDS_A_NOTE}",
        "--checkpoint-action=echo=%u",
        "--anchored",
        *(f"--exclude={top}/{pattern}" for pattern in without),
    ]


def _ignore(_line: str) -> None:
    return


def _records(tarball: Path) -> int:
    command = ("xz", "--robot", "--list", os.fspath(tarball))
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    totals = next(line for line in done.stdout.splitlines() if line.startswith("totals"))
    return int(totals.split("\t")[4]) // TAR_RECORD_BYTES


def add_drivers(tree: Path, drivers: Iterable[Path]) -> None:
    """Add drivers of the lab's own to a source tree, beside the samples of mediated devices.

    Args:
        tree: the folder with the sources.
        drivers: their sources, one file each.
    """
    for driver in drivers:
        shutil.copy(driver, tree / SAMPLES)
        with (tree / SAMPLES / "Makefile").open("a") as makefile:
            makefile.write(f"obj-$(CONFIG_VFIO_MDEV) += {driver.stem}.o\n")
