"""Facts about the host: tools, disk space, memory and cores."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfio_lab.arch import Architecture
from vfio_lab.errors import HostError
from vfio_lab.util import resources
from vfio_lab.util.process import SYSTEM_PATH

INCLUDE = Path("/usr/include")
HOSTS = resources.root() / "images/hosts.toml"


@dataclass(frozen=True)
class Tool:
    """A command or header of the host that the lab uses.

    Args:
        name: a command, or a header below /usr/include.
        purpose: an ability of images/hosts.toml: `run`; `agent`; `kernel`; `distribution`, for
            packaged kernels, which are not built; `image`; `selftests`; `report`; `tree`, for
            users' own source trees; or `jail`, for builds of untrusted code.
    """

    name: str
    purpose: str

    @property
    def there(self) -> bool:
        """Whether the tool is installed on this host."""
        if self.name.endswith(".h"):
            return (INCLUDE / self.name).exists() or any(INCLUDE.glob(f"*/{self.name}"))
        return which(self.name) is not None


@dataclass(frozen=True)
class HostFamily:
    """Distributions with the same names of packages, a section of images/hosts.toml.

    Args:
        name: an ID of os-release.
        install: the command that installs packages.
        proven: where the lab was set up with these names; empty if it never was.
        packages: the packages that contain a tool, by the tool's name.
        foreign: the same of tools for guests of another architecture.
    """

    name: str
    install: str
    proven: str
    packages: Mapping[str, str]
    foreign: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def _hosts() -> dict[str, dict[str, Any]]:
    return tomllib.loads(HOSTS.read_text("utf-8"))


TOOLS = tuple(
    Tool(name, purpose)
    for purpose, names in _hosts()["abilities"].items()
    for name in names.split()
)


def os_release() -> dict[str, str]:
    """Return what this host says about its distribution, empty if it says nothing."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def host_family() -> HostFamily | None:
    """Return the family of this host's distribution, None if the lab does not know it."""
    release, known = os_release(), _hosts()
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        if "packages" in known.get(name, {}):
            return HostFamily(name, **known[name])
    return None


def packages_of(family: str, unneeded: Iterable[str] = ()) -> list[str]:
    """Return all packages that the lab uses on a family of distributions.

    Args:
        family: a section of images/hosts.toml.
        unneeded: tools to leave out.
    """
    tools: Mapping[str, str] = _hosts()[family]["packages"]
    wanted = {name: words for name, words in tools.items() if name not in set(unneeded)}
    return sorted({word for words in wanted.values() for word in words.split()})


def cross(architecture: Architecture) -> str:
    """Return the prefix of the compiler and binutils for an architecture; empty for the host's."""
    return "" if platform.machine() == architecture.name else architecture.cross


def which(name: str) -> Path | None:
    """Return the path of a command, found on the PATH or in the sbin folders."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}")
    return None if found is None else Path(found)


def own_script(name: str) -> Path | None:
    """Return the path of a program of this Python environment, or else of the PATH."""
    own = Path(sys.executable).parent
    found = shutil.which(name, path=f"{own}:{os.environ.get('PATH', os.defpath)}")
    return None if found is None else Path(found)


def missing(purpose: str) -> list[Tool]:
    """Return the tools for a purpose that are not installed on this host."""
    return [tool for tool in TOOLS if tool.purpose == purpose and not tool.there]


def install_command(tools: Iterable[str]) -> str:
    """Return the command line that installs tools, with `sudo` for users other than root.

    Args:
        tools: the names of tools in images/hosts.toml.
    """
    family = host_family()
    if family is None:
        return f"install {' '.join(sorted(set(tools)))}, or use the container (README.md)"
    sudo = "" if os.geteuid() == 0 else "sudo "
    known = {**family.packages, **family.foreign}
    packages = {word for tool in tools for word in known.get(tool, tool).split()}
    return f"{sudo}{family.install} {' '.join(sorted(packages))}"


def need(purpose: str) -> None:
    """Check that every tool for a purpose is installed.

    Raises:
        HostError: tools are missing; names all of them and the command that installs them.
    """
    if absent := missing(purpose):
        raise HostError(
            f"this host lacks tools for: {purpose}",
            seen=f"no {', '.join(tool.name for tool in absent)}",
            hint=install_command(tool.name for tool in absent),
        )


def need_compiler(architecture: Architecture) -> None:
    """Check that the host can compile for an architecture.

    Raises:
        HostError: it cannot; the hint is the command that installs the compiler.
    """
    gcc = f"{cross(architecture)}gcc"
    if which(gcc) is None:
        raise HostError(
            f"this host has no compiler for {architecture.name}",
            seen=f"no {gcc}",
            hint=install_command([gcc]),
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
