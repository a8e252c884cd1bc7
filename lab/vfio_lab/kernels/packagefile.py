"""Kernel packages: unpack a .deb or .rpm without root and without installing it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vfio_lab.errors import BuildError, HostError, UsageError
from vfio_lab.util import host
from vfio_lab.util.process import environment, pipeline

DEB, RPM = ".deb", ".rpm"
KINDS = (DEB, RPM)
ARCHITECTURES = ("amd64", "x86_64")
# NAME_VERSION_ARCH.deb and NAME-VERSION-RELEASE.ARCH.rpm: what brings image, modules and lists of
# one kernel has names of its own, and the same rest.
REST = {DEB: re.compile(r"_[^_]+_[^_]+\.deb$"), RPM: re.compile(r"-[^-]+-[^-]+\.rpm$")}
COMPANIONS = re.compile(r"(linux-(image|binary|modules|base)|kernel)\b")
UNPACKED_FACTOR = 8


def is_package(path: Path) -> bool:
    """Return whether a file has the name of a package."""
    return path.suffix in KINDS


def companions(package: Path) -> list[Path]:
    """Return a package and those beside it that contain other parts of the same kernel."""
    rest = REST[package.suffix].search(package.name)
    if rest is None:
        return [package]
    beside = sorted(package.parent.glob(f"*{rest[0]}"))
    return [package, *(path for path in beside if path != package and COMPANIONS.match(path.name))]


def unpack(packages: Sequence[Path], target: Path, log: Path) -> None:
    """Unpack packages of this architecture into one folder.

    Args:
        packages: the packages, all of the same kind.
        target: the folder; created if necessary.
        log: the file for the tools' output.

    Raises:
        UsageError: a file is not a package, or is for another architecture.
        HostError: a tool or disk space is missing.
    """
    target.mkdir(parents=True, exist_ok=True)
    for package in packages:
        found = architecture(package)
        if found not in ARCHITECTURES:
            raise UsageError(
                f"{package.name} is for another architecture",
                expected=" or ".join(ARCHITECTURES),
                seen=found,
            )
        host.need_space(target, UNPACKED_FACTOR * package.stat().st_size, package.name)
        if package.suffix == DEB:
            commands = [["dpkg-deb", "--extract", os.fspath(package), os.fspath(target)]]
        else:
            extract = ["cpio", "--extract", "--make-directories", "--quiet"]
            commands = [["rpm2cpio", os.fspath(package)], extract]
        try:
            pipeline(f"unpack {package.name}", *commands, log=log, cwd=target)
        except BuildError as error:
            if "No space left" in (error.tail or ""):
                raise HostError(str(error.what), seen="No space left on device") from error
            raise UsageError(
                f"cannot unpack {package}", expected="a whole package", seen=error.tail
            ) from error


def architecture(package: Path) -> str:
    """Return the architecture that a package is for.

    Raises:
        UsageError: the file is not a package.
        HostError: the tool that reads it is missing.
    """
    queries = {
        DEB: ["dpkg-deb", "--field", os.fspath(package), "Architecture"],
        RPM: ["rpm", "--query", "--package", "--queryformat", "%{ARCH}", os.fspath(package)],
    }
    command = queries[package.suffix]
    if host.which(command[0]) is None:
        raise HostError(
            f"cannot read {package.name}",
            seen=f"no {command[0]} on the PATH",
            hint=host.install_command(command[:1]),
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UsageError(f"{package} is not a package", seen=lines[0] if lines else "nothing")
    return done.stdout.strip()
