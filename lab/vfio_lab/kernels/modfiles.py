"""Module files as distributions ship them: decompression, and the facts in .modinfo.

Source: include/linux/module.h, MODULE_INFO(); scripts/mod/modpost.c, add_depends().
"""

from __future__ import annotations

import gzip
import lzma
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vfio_lab.errors import UsageError
from vfio_lab.util.process import environment

SUFFIX = re.compile(r"\.ko(\.\w+)?$")
LISTS = frozenset(("modules.builtin", "modules.builtin.modinfo", "modules.order"))
# scripts/sign-file.c appends this after the signature.
SIGNED = b"~Module signature appended~\n"


def _zstd(data: bytes) -> bytes:
    command = ["zstd", "--decompress", "--stdout", "--quiet"]
    done = subprocess.run(command, input=data, capture_output=True, check=False, env=environment())
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip())
    return done.stdout


DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".zst": _zstd,
}


@dataclass(frozen=True)
class Module:
    """A module, decompressed.

    Args:
        place: the path below /lib/modules/RELEASE, without the suffix of a compression.
        data: the ELF file, with its signature if it has one.
    """

    place: Path
    data: bytes

    @property
    def name(self) -> str:
        """The name as the kernel writes it, with underscores."""
        return module_name(self.place.name)

    @property
    def depends(self) -> list[str]:
        """The names of the modules whose symbols it uses."""
        return [module_name(name) for name in info(self.data, "depends").split(",") if name]


@dataclass(frozen=True)
class ModuleSet:
    """The modules of one kernel release.

    Args:
        release: the release, as printed by `uname -r`.
        files: module files and the lists beside them, by their path below /lib/modules/RELEASE.
    """

    release: str
    files: Mapping[Path, Path]

    @classmethod
    def installed(cls, folder: Path, release: str) -> ModuleSet:
        """Return the modules of a folder /lib/modules/RELEASE."""
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls(release, {path.relative_to(folder): path for path in found})

    @cached_property
    def places(self) -> Mapping[str, Path]:
        """The path of each module, by name."""
        return {module_name(path.name): path for path in self.files if SUFFIX.search(path.name)}

    @property
    def lists(self) -> Mapping[Path, Path]:
        """The build's own lists: built-in modules, and the order in which modules are tried."""
        return {place: path for place, path in self.files.items() if str(place) in LISTS}

    def read(self, name: str) -> Module:
        """Return a module.

        Raises:
            UsageError: it cannot be decompressed, or is for another kernel.
        """
        place = self.places[name]
        path = self.files[place]
        data = decompressed(path)
        release = info(data, "vermagic").partition(" ")[0]
        if release != self.release:
            raise UsageError(
                f"{path} is not for kernel {self.release}",
                expected=f"a module of {self.release}",
                seen=release or "no vermagic: this is no kernel module",
            )
        return Module(place.with_name(SUFFIX.sub(".ko", place.name)), data)

    def with_needs(self, names: Iterable[str]) -> list[Module]:
        """Return modules and their dependencies, dependencies first.

        Args:
            names: the modules' names; names that this kernel does not have are left out.

        Raises:
            UsageError: a module is damaged, is for another kernel, or needs a missing module.
        """
        done: dict[str, Module] = {}
        for name in map(module_name, names):
            if name in self.places:
                self._add(name, done, ())
        return list(done.values())

    def _add(self, name: str, done: dict[str, Module], above: tuple[str, ...]) -> None:
        if name in done or name in above:
            return
        if name not in self.places:
            raise UsageError(
                f"the modules of kernel {self.release} are not complete",
                expected=f"{name}, which {above[-1]} depends on",
                seen="no such file",
            )
        module = self.read(name)
        for needed in module.depends:
            self._add(needed, done, (*above, name))
        done[name] = module


def module_name(text: str) -> str:
    """Return the module's name for a file name or a user's spelling."""
    return SUFFIX.sub("", text).replace("-", "_")


def info(data: bytes, field: str) -> str:
    """Return a field of a module's .modinfo section, empty if there is none.

    Args:
        data: the module, decompressed.
        field: `vermagic`, `depends`, ...
    """
    _before, _found, after = data.partition(b"\0" + field.encode() + b"=")
    return after.partition(b"\0")[0].decode(errors="replace")


def signed(path: Path) -> bool:
    """Return whether a module file has a signature, which stripping would remove."""
    with path.open("rb") as file:
        file.seek(-min(len(SIGNED), path.stat().st_size), 2)
        return file.read() == SIGNED


def decompressed(path: Path) -> bytes:
    """Return a module file's content.

    Raises:
        UsageError: the compression is unknown, or the file is damaged.
    """
    if path.suffix not in DECOMPRESS:
        raise UsageError(f"cannot decompress {path}", expected=f"one of {', '.join(DECOMPRESS)}")
    try:
        return DECOMPRESS[path.suffix](path.read_bytes())
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise UsageError(f"cannot decompress {path}", seen=str(error)) from error
