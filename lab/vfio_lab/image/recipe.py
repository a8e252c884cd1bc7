"""What determines a guest's root file system, and the command that builds it.

Source: mmdebstrap(1).
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.util import apt, host, resources
from vfio_lab.util.cache import digest, file_digest

IMAGES = resources.root() / "images"
FOREIGN = IMAGES / "foreign"  # sets an image up whose programs the host cannot run
# Hash randomization would change the order of constant sets, and so the bytecode. With an unchecked
# hash the guest does not compare bytecode with its source.
COMPILE = (
    'PYTHONHASHSEED=0 chroot "$1" sh -c "python3 -m compileall -q -f'
    ' --invalidation-mode unchecked-hash /usr/lib/python3*"'
)
# Uncompressed: under TCG decompression is slow, and the host's page cache has the data anyway. The
# superblock must name a compressor, and lz4 is the only one built into the kernel.
SQUASHFS_OPTIONS = (
    *("-comp", "lz4", "-noI", "-noD", "-noF", "-noX", "-no-xattrs"),
    # To find duplicates sqfstar 4.5.1 reads its output back, sometimes before it is written:
    # "Failed to checksum data from output filesystem". The duplicates amount to 64 KiB only.
    "-no-duplicates",
    *("-root-mode", "0755"),  # sqfstar ignores the tar's entry for the root and uses 0777
    *("-no-progress", "-quiet"),
)


@dataclass(frozen=True)
class Recipe:
    """Everything that determines an image.

    Args:
        name: `base`, or a name in the catalogue.
        suite: the Debian suite.
        components: the components of the suite.
        variant: mmdebstrap's set of base packages.
        packages: further packages.
        drop: globs of paths that are removed at the end.
        files: the lab's files in the image, by their absolute path there.
        epoch: the newest time stamp of a file, in seconds since 1970.
        steps: the number of progress lines that a build prints.
        size_mib: disk space for the image, in MiB.
        extras: additions to the payload of its guests: `kernel`, `selftests`.
        only: names of the architectures that it is made for, all if empty.
        architecture: the architecture of its programs.
    """

    name: str
    suite: str
    components: tuple[str, ...]
    variant: str
    packages: tuple[str, ...]
    drop: tuple[str, ...]
    files: Mapping[str, Path]
    epoch: int
    steps: int
    size_mib: int
    extras: tuple[str, ...]
    only: tuple[str, ...] = ()
    architecture: Architecture = X86_64

    @property
    def foreign(self) -> bool:
        """Whether this host cannot run its programs."""
        return bool(host.cross(self.architecture))

    @property
    def inputs(self) -> dict[str, object]:
        """What the key is made of: the recipe, and the digest of every file that it names."""
        return {
            "architecture": self.architecture.debian,
            "suite": self.suite,
            "components": self.components,
            "variant": self.variant,
            "packages": self.packages,
            "drop": self.drop,
            "files": {name: file_digest(path) for name, path in self.files.items()},
            "epoch": self.epoch,
            "hooks": [file_digest(FOREIGN) if self.foreign else COMPILE],
            "squashfs": SQUASHFS_OPTIONS,
        }

    @property
    def key(self) -> str:
        """The digest of the inputs."""
        return digest(self.inputs)[:16]


def command(
    made: Recipe, mirror: apt.Mirror, scratch: Path, network: Sequence[str] = ()
) -> list[str]:
    """Return mmdebstrap's command line; it writes a tar to stdout.

    Args:
        made: the recipe.
        mirror: the mirror to fetch packages from.
        network: apt settings that are needed to reach the mirror.
        scratch: the folder that receives the list of installed packages.
    """
    signed = "" if mirror.keyring is None else f"[signed-by={mirror.keyring}] "
    source = f"deb {signed}{mirror.uri} {made.suite} {' '.join(made.components)}"
    uploads = [shlex.join(["upload", os.fspath(path), name]) for name, path in made.files.items()]
    folders = sorted({str(Path(name).parent) for name in made.files})
    hooks = [
        "mkdir -p" + "".join(f' "$1"{folder}' for folder in folders),
        *uploads,
        "chmod 0755" + "".join(f' "$1"{name}' for name in _programs(made)),
        *_setup(made, scratch / "status"),
    ]
    return [
        "mmdebstrap",
        f"--mode={_mode()}",
        *_variant(made),
        "--format=tar",
        "--verbose",
        f"--include={','.join(made.packages)}",
        *(f"--aptopt={setting}" for setting in network),
        *(f"--{'extract' if made.foreign else 'customize'}-hook={hook}" for hook in hooks),
        made.suite,
        "-",
        source,
    ]


def _variant(made: Recipe) -> list[str]:
    if not made.foreign:
        return [f"--variant={made.variant}"]
    architecture = f"--architectures={made.architecture.debian}"
    return ["--variant=extract", architecture, f"--include=?{made.variant}", "--include=base-files"]


def _setup(made: Recipe, status: Path) -> list[str]:
    setup = f'sh {shlex.quote(os.fspath(FOREIGN))} "$1"' if made.foreign else COMPILE
    return [setup, shlex.join(["download", "/var/lib/dpkg/status", os.fspath(status)])]


def _mode() -> str:
    """Return how mmdebstrap changes its root: root in a container may be unable to mount."""
    if os.geteuid() != 0:
        return "unshare"
    probe = ["unshare", "--mount", "--propagation", "unchanged", "true"]
    done = subprocess.run(probe, check=False, capture_output=True)
    return "unshare" if done.returncode == 0 else "root"


def _programs(made: Recipe) -> list[str]:
    return [name for name, path in made.files.items() if path.read_bytes().startswith(b"#!")]


def network() -> list[str]:
    """Return the apt settings that this host needs to reach its mirror."""
    # mmdebstrap starts apt without the host's configuration, so pass on proxies and certificates.
    question = ["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n']
    answer = subprocess.run(
        [*question, "Acquire::http", "Acquire::https"], check=True, capture_output=True, text=True
    )
    return answer.stdout.splitlines()
