"""The initramfs of a kernel whose drivers for disks and file systems are modules.

It contains a static program (`images/early.c`), those modules and their order. Creating it needs
no root and no tool but the compiler.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.kernels.modfiles import Module
from vfio_lab.util import resources
from vfio_lab.util.process import pipeline

SOURCE = resources.root() / "images" / "early.c"
COMPILER = ("gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")
CONSOLE = (5, 1)
MAGIC = b"070701"
TRAILER = "TRAILER!!!"
WORD_BYTES = 4


@dataclass(frozen=True)
class BootEntry:
    """An entry of an initramfs.

    Args:
        name: the path, without a leading slash.
        mode: type and permissions.
        data: the content.
        device: major and minor number of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def initramfs(init: bytes, modules: Sequence[Module]) -> bytes:
    """Return a reproducible archive.

    Args:
        init: the program of the first process.
        modules: the modules that it loads, in this order.
    """
    order = "".join(f"/lib/{module.place.name}\n" for module in modules)
    entries = [
        BootEntry("dev", stat.S_IFDIR | 0o755),
        # Before devtmpfs is mounted, the first process needs this node to report errors.
        BootEntry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE),
        BootEntry("lib", stat.S_IFDIR | 0o755),
        *(
            BootEntry(f"lib/{module.place.name}", stat.S_IFREG | 0o644, module.data)
            for module in modules
        ),
        BootEntry("modules", stat.S_IFREG | 0o644, order.encode()),
        BootEntry("init", stat.S_IFREG | 0o755, init),
        BootEntry(TRAILER, 0),
    ]
    return b"".join(part for number, each in enumerate(entries, 1) for part in _newc(each, number))


def compiled(scratch: Path, log: Path) -> bytes:
    """Compile the program of the first process and return it.

    Args:
        scratch: the path of the output file.
        log: the file for the compiler's output.

    Raises:
        HostError: there is no compiler.
        BuildError: it does not compile.
    """
    pipeline("compile the first process", [*COMPILER, "-o", f"{scratch}", f"{SOURCE}"], log=log)
    program = scratch.read_bytes()
    scratch.unlink()
    return program


def _newc(entry: BootEntry, number: int) -> Iterator[bytes]:
    """Yield the bytes of an entry in cpio's format newc.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst
    """
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device)
    head = MAGIC + b"".join(b"%08X" % field for field in (*fields, len(name), 0)) + name
    yield head + bytes(-len(head) % WORD_BYTES)
    yield entry.data + bytes(-len(entry.data) % WORD_BYTES)
