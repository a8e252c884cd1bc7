"""Files as kernels and distributions have them, small but read by the real tools."""

import gzip
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

RELEASE = "6.18.2-mine+"
BANNER = f"{RELEASE} (me@here) #1 SMP"
# The options that guests cannot do without.
NEEDED = (
    "VIRTIO_PCI",
    "VIRTIO_BLK",
    "VIRTIO_CONSOLE",
    "VIRTIO_NET",
    "SQUASHFS",
    "OVERLAY_FS",
    "CONFIGFS_FS",
)
BUILT_IN = "CONFIG_VFIO=m\n" + "".join(f"CONFIG_{name}=y\n" for name in NEEDED)
MODULAR = "CONFIG_VFIO=m\n" + "".join(f"CONFIG_{name}=m\n" for name in NEEDED)
EARLY = (
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "squashfs",
    "overlay",
    "configfs",
)
# include/xen/interface/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY
PVH_NOTE = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", 0x1000000)
SETUP_SECTORS = 4


def module(path: Path, depends: Sequence[str] = (), release: str = RELEASE) -> Path:
    """Compile something that says what a module says of itself, packed as its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_name(path.name.partition(".")[0] + ".ko")
    said = f"a=1\\0depends={','.join(depends)}\\0vermagic={release} SMP"
    source = f'__attribute__((section(".modinfo"), used)) char m[] = "{said}";\n'
    tool("gcc", "-g", "-x", "c", "-c", "-o", plain, "-", said=source)
    packer = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}.get(path.suffix)
    if packer is not None:
        options = ["--rm", "-q"] if packer == "zstd" else []
        tool(packer, "-f", *options, plain)
    return path


def bzimage(path: Path, banner: str = BANNER, vmlinux: bytes = b"\x7fELF" + PVH_NOTE) -> Path:
    """Write a bzImage of which nothing works but what is read from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = gzip.compress(vmlinux, mtime=0)
    payload += struct.pack("<I", len(vmlinux))
    head = bytearray((SETUP_SECTORS + 1) * 0x200)
    head[0x1F1] = SETUP_SECTORS
    struct.pack_into("<4s8xH", head, 0x202, b"HdrS", 0x200)
    struct.pack_into("<II", head, 0x248, 0, len(payload))
    head[0x400 : 0x400 + len(banner)] = banner.encode()
    path.write_bytes(bytes(head) + payload)
    return path


def deb(
    path: Path,
    root: Path,
    package: str = "linux-image",
    architecture: str = "amd64",
    compression: str = "none",
) -> Path:
    """Make a Debian package of a folder."""
    control = root / "DEBIAN/control"
    control.parent.mkdir(parents=True, exist_ok=True)
    control.write_text(
        f"Package: {package}\nVersion: 1\nArchitecture: {architecture}\n"
        "Maintainer: nobody <n@invalid>\nDescription: small\n"
    )
    tool("dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", root, path)
    return path


def installed(root: Path, release: str = RELEASE, suffix: str = ".ko.xz") -> Path:
    """Lay out a distribution's kernel below a folder: all that guests need first is a module."""
    bzimage(root / f"boot/vmlinuz-{release}", f"{release} (me@here) #1 SMP")
    (root / f"boot/config-{release}").write_text(MODULAR)
    folder = root / "lib/modules" / release
    for name in EARLY:
        module(folder / f"kernel/{name}{suffix}", release=release)
    module(folder / f"kernel/vfio{suffix}", release=release)
    module(folder / f"kernel/vfio-pci{suffix}", ["vfio"], release)
    module(folder / f"kernel/unwanted{suffix}", release=release)
    (folder / "modules.builtin").touch()
    (folder / "modules.order").touch()
    return root


def tool(*command: str | Path, said: str | None = None) -> str:
    """Run a tool of the host's."""
    found = shutil.which(command[0])
    done = subprocess.run(
        [found, *command[1:]], input=said, text=True, check=True, capture_output=True
    )
    return done.stdout
