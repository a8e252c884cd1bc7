"""The bzImage: its header, and the vmlinux inside.

Source: Documentation/arch/x86/boot.rst; include/xen/interface/elfnote.h for the PVH entry.
"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.errors import UsageError
from vfio_lab.spec.changes import Version, version_of
from vfio_lab.util.process import environment

KINDS = "a source tree, a built tree, a package, or an image with its modules beside it"
SETUP_SECTORS_AT = 0x1F1
HEADER = struct.Struct("<4s8xH")
HEADER_AT = 0x202
# Source: Documentation/arch/arm64/booting.rst.
ARM64, ARM64_AT = b"ARM\x64", 0x38
PAYLOAD = struct.Struct("<II")
PAYLOAD_AT = 0x248
SECTOR_BYTES = 0x200
LONGEST_VERSION = 256
# The build appends the uncompressed size to the compressed data.
SIZE_BYTES = 4
ELF = b"\x7fELF"
# XEN_ELFNOTE_PHYS32_ENTRY (18) of the owner "Xen": QEMU starts such a vmlinux by itself.
PVH_NOTE = re.compile(rb"\x04\x00{3}[\x04\x08]\x00{3}\x12\x00{3}Xen\x00")


def _tool(*command: str) -> Callable[[bytes], bytes]:
    def run(data: bytes) -> bytes:
        done = subprocess.run(
            command, input=data, capture_output=True, check=False, env=environment()
        )
        return done.stdout if done.returncode == 0 else b""

    return run


FORMATS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"\xfd7zXZ\0": lzma.decompress,
    b"\x28\xb5\x2f\xfd": _tool("zstd", "--decompress", "--stdout", "--quiet"),
    b"\x02\x21\x4c\x18": _tool("lz4", "--decompress", "--stdout", "--quiet"),
    ELF: bytes,
}


@dataclass(frozen=True)
class BzImage:
    """A bzImage and the facts in its header.

    Args:
        path: the file.
        banner: release, builder and build number, as printed after "Linux version".
    """

    path: Path
    banner: str

    @classmethod
    def read(cls, path: Path) -> BzImage:
        """Read the header of a bzImage.

        Raises:
            UsageError: the file cannot be read, or is not a bzImage.
        """
        try:
            with path.open("rb") as file:
                file.seek(HEADER_AT)
                head = file.read(HEADER.size)
                magic, offset = HEADER.unpack(head) if len(head) == HEADER.size else (b"", 0)
                file.seek(ARM64_AT)
                if file.read(len(ARM64)) == ARM64:
                    raise UsageError(
                        f"{path} is a kernel for arm64",
                        expected="one for x86-64",
                        hint="kernels for arm64 are those that the lab builds: --lab-arch arm64",
                    )
                if magic != b"HdrS":
                    raise UsageError(f"{path} is no bzImage", expected=KINDS)
                file.seek(SECTOR_BYTES + offset)
                text = file.read(LONGEST_VERSION).partition(b"\0")[0].decode(errors="replace")
        except OSError as error:
            hint = f"sudo chmod +r {path}" if isinstance(error, PermissionError) else None
            raise UsageError(f"cannot read {path}", seen=str(error), hint=hint) from error
        return cls(path, text)

    @property
    def release(self) -> str:
        """The release, as `uname -r` will print it."""
        return self.banner.partition(" ")[0]

    @property
    def version(self) -> Version:
        """The stable release that it was built from, which the release name may not contain.

        Raises:
            UsageError: the banner has no version.
        """
        return version_of(self.release, self.banner)

    def vmlinux(self) -> bytes | None:
        """Return the vmlinux inside if QEMU can start it without the decompressor, else None.

        Under TCG the kernel's own decompressor takes seconds.
        """
        data = self.path.read_bytes()
        if len(data) < PAYLOAD_AT + PAYLOAD.size:
            return None
        start = (data[SETUP_SECTORS_AT] + 1) * SECTOR_BYTES
        offset, size = PAYLOAD.unpack_from(data, PAYLOAD_AT)
        payload = data[start + offset : start + offset + size]
        for magic, decompress in FORMATS.items():
            if not payload.startswith(magic):
                continue
            try:
                kernel = decompress(payload[:-SIZE_BYTES])
            except (OSError, EOFError, lzma.LZMAError, zlib.error):
                return None
            return kernel if kernel.startswith(ELF) and PVH_NOTE.search(kernel) else None
        return None
