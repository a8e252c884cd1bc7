"""The files that every guest gets besides image and modules: agent, boot script, keys.

They are a plain tar on a block device, so that a change of the agent does not rebuild the image.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.image import agent
from vfio_lab.util import resources
from vfio_lab.util.cache import Cache, digest

BOOT = resources.PACKAGE / "agent/boot"
MODULES = ("vfio-pci", "vfio_iommu_type1")
NETWORK = """\
link set lo up
link set eth0 up
address add 10.0.2.15/24 dev eth0
"""
EXECUTABLE = ("agent", "boot", "selftests/")


def keys(cache: Cache) -> Path:
    """Return the folder with the cache's SSH keys: `host`, `user`, and a `.pub` file for both."""
    return cache.obtain("keys", "ssh", _make_keys)


def payload_files(cache: Cache, architecture: Architecture = X86_64) -> dict[str, bytes]:
    """Return the payload's files by their paths below /run/vfio-lab.

    Args:
        cache: the cache that keeps the agent and the keys.
        architecture: the guests' architecture.

    Raises:
        HostError: the agent cannot be compiled here.
    """
    pairs = keys(cache)
    return {
        "agent": agent.build_agent(cache, architecture=architecture).read_bytes(),
        "boot": BOOT.read_bytes(),
        "settings": f"MODULES='{' '.join(MODULES)}'\n".encode(),
        "network": NETWORK.encode(),
        "ssh_host_ed25519_key": (pairs / "host").read_bytes(),
        "authorized_keys": (pairs / "user.pub").read_bytes(),
    }


def pack_tar(content: Mapping[str, bytes], path: Path) -> None:
    """Write files to a reproducible tar, which depends on the files' names and contents only."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(content.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o700 if name.startswith(EXECUTABLE) else 0o600
            archive.addfile(member, io.BytesIO(data))
    path.chmod(0o600)


def payload_digest(content: Mapping[str, bytes]) -> str:
    """Return the digest of a payload's files."""
    return digest({name: data.hex() for name, data in content.items()})


def _make_keys(folder: Path) -> None:
    for name in ("host", "user"):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(private)
        (folder / f"{name}.pub").write_bytes(public + b" vfio-lab\n")
