"""Facts about the host: tools, disk space, memory and cores."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.arch import X86_64
from vfio_lab.errors import HostError
from vfio_lab.util.process import SYSTEM_PATH

INCLUDE = Path("/usr/include")


@dataclass(frozen=True)
class Tool:
    """A command or header of the host that the lab uses.

    Args:
        name: a command, or a header below /usr/include.
        package: the Debian package that contains it.
        purpose: `run`; `agent`; `kernel`; `distribution`, for packaged kernels, which are not
            built; `image`; `selftests`; `report`; `tree`, for users' own source trees; or `jail`,
            for builds of untrusted code.
    """

    name: str
    package: str
    purpose: str

    @property
    def there(self) -> bool:
        """Whether the tool is installed on this host."""
        if self.name.endswith(".h"):
            return (INCLUDE / self.name).exists() or any(INCLUDE.glob(f"*/{self.name}"))
        return which(self.name) is not None


TOOLS = (
    Tool(X86_64.qemu, X86_64.qemu_package, "run"),
    Tool("setpriv", "util-linux", "run"),
    Tool("gcc", "gcc", "agent"),
    Tool("stdlib.h", "libc6-dev", "agent"),
    Tool("apt-get", "apt", "kernel"),
    Tool("dpkg-deb", "dpkg", "kernel"),
    Tool("gcc", "gcc", "kernel"),
    Tool("ld", "binutils", "kernel"),
    Tool("make", "make", "kernel"),
    Tool("flex", "flex", "kernel"),
    Tool("bison", "bison", "kernel"),
    Tool("bc", "bc", "kernel"),
    Tool("xz", "xz-utils", "kernel"),
    Tool("lz4", "lz4", "kernel"),
    Tool("zstd", "zstd", "kernel"),
    Tool("cpio", "cpio", "kernel"),
    Tool("rsync", "rsync", "kernel"),
    Tool("perl", "perl", "kernel"),
    Tool("depmod", "kmod", "kernel"),
    Tool("mksquashfs", "squashfs-tools", "kernel"),
    Tool("ccache", "ccache", "kernel"),
    Tool("gelf.h", "libelf-dev", "kernel"),
    Tool("openssl/ssl.h", "libssl-dev", "kernel"),
    Tool("apt-get", "apt", "distribution"),
    Tool("dpkg-deb", "dpkg", "distribution"),
    Tool("gcc", "gcc", "distribution"),
    Tool("stdio.h", "libc6-dev", "distribution"),
    Tool("strip", "binutils", "distribution"),
    Tool("depmod", "kmod", "distribution"),
    Tool("mksquashfs", "squashfs-tools", "distribution"),
    Tool("zstd", "zstd", "distribution"),
    Tool("git", "git", "tree"),
    Tool("bwrap", "bubblewrap", "jail"),
    Tool("mmdebstrap", "mmdebstrap", "image"),
    Tool("sqfstar", "squashfs-tools", "image"),
    Tool("newuidmap", "uidmap", "image"),
    Tool("unsquashfs", "squashfs-tools", "image"),
    Tool("cpio", "cpio", "image"),
    Tool("uuid/uuid.h", "uuid-dev", "selftests"),
    Tool("chromium-headless-shell", "chromium-headless-shell", "report"),
)


def which(name: str) -> Path | None:
    """Return the path of a command, found on the PATH or in the sbin folders."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}")
    return None if found is None else Path(found)


def missing(purpose: str) -> list[Tool]:
    """Return the tools for a purpose that are not installed on this host."""
    return [tool for tool in TOOLS if tool.purpose == purpose and not tool.there]


def install_command(packages: Iterable[str]) -> str:
    """Return the command line that installs packages, with `sudo` for users other than root."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install --no-install-recommends {' '.join(sorted(set(packages)))}"


def need(purpose: str) -> None:
    """Check that every tool for a purpose is installed.

    Raises:
        HostError: tools are missing; names all of them and the command that installs them.
    """
    if absent := missing(purpose):
        raise HostError(
            f"this host lacks tools for: {purpose}",
            seen=f"no {', '.join(tool.name for tool in absent)}",
            hint=install_command(tool.package for tool in absent),
        )


def need_space(folder: Path, size_bytes: int, what: str) -> None:
    """Check that a folder's disk has enough free space.

    Args:
        folder: a folder on the disk, which may not exist yet.
        size_bytes: the space needed, in bytes.
        what: what the space is for, for the error.

    Raises:
        HostError: there is less than `size_bytes` free.
    """
    free = free_bytes(folder)
    if free < size_bytes:
        raise HostError(
            f"not enough disk space for {what}",
            expected=f"{megabytes(size_bytes)} free",
            seen=f"{megabytes(free)} free in {folder}",
            hint="`vfio-lab cache show` lists the cache; set XDG_CACHE_HOME to move it",
        )


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def megabytes(size_bytes: int) -> str:
    """Return a size in words: `12 MB`, `1.5 GB`."""
    mega = size_bytes / (1 << 20)
    return f"{mega:.0f} MB" if mega < 1 << 10 else f"{mega / (1 << 10):.1f} GB"


def memory_bytes() -> tuple[int, int]:
    """Return the host's total and available memory, in bytes."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {fields[0].rstrip(":"): int(fields[1]) << 10 for fields in lines}
    return sizes["MemTotal"], sizes["MemAvailable"]


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
