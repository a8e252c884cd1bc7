"""The initramfs of a kernel whose drivers for disks and file systems are modules.

It holds one static program (`images/early.c`), those modules and their order; it is made without
root and without any tool but the compiler.
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
    """One entry of an initramfs.

    Args:
        name: its path, without a leading slash.
        mode: type and permissions.
        data: its content.
        device: major and minor number of a device node.
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def initramfs(init: bytes, modules: Sequence[Module]) -> bytes:
    """Return the archive; the same content makes the same bytes.

    Args:
        init: the first process.
        modules: what it loads, in this order.
    """
    order = "".join(f"/lib/{each.place.name}\n" for each in modules)
    entries = [
        BootEntry("dev", stat.S_IFDIR | 0o755),
        # Until devtmpfs is mounted the first process would have nobody to tell what is wrong.
        BootEntry("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE),
        BootEntry("lib", stat.S_IFDIR | 0o755),
        *(BootEntry(f"lib/{each.place.name}", stat.S_IFREG | 0o644, each.data) for each in modules),
        BootEntry("modules", stat.S_IFREG | 0o644, order.encode()),
        BootEntry("init", stat.S_IFREG | 0o755, init),
        BootEntry(TRAILER, 0),
    ]
    return b"".join(part for number, each in enumerate(entries, 1) for part in _newc(each, number))


def compiled(scratch: Path, log: Path) -> bytes:
    """Return the first process, compiled.

    Args:
        scratch: an empty file's place.
        log: what the compiler says.

    Raises:
        HostError: there is no compiler.
        BuildError: it does not compile.
    """
    pipeline("compile the first process", [*COMPILER, "-o", f"{scratch}", f"{SOURCE}"], log=log)
    program = scratch.read_bytes()
    scratch.unlink()
    return program


def _newc(entry: BootEntry, number: int) -> Iterator[bytes]:
    """Yield an entry in cpio's format newc.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst
    """
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device)
    head = MAGIC + b"".join(b"%08X" % field for field in (*fields, len(name), 0)) + name
    yield head + bytes(-len(head) % WORD_BYTES)
    yield entry.data + bytes(-len(entry.data) % WORD_BYTES)
