"""The guest's root file system: from a list of packages to a read-only squashfs, without root.

Source: images/rootfs.toml says what is in it and why; mmdebstrap(1) does the work.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import apt, host, progress
from lab.cache import Cache, digest, file_digest
from lab.errors import HostError
from lab.process import environment, pipeline

IMAGES = Path(__file__).resolve().parent.parent / "images"
KIND = "image"
SQUASHFS = "root.squashfs"
FACTS = "image.json"
SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))
STEP_WORDS = ("Get:", "Unpacking ", "Setting up ")
KEPT_VARIABLES = frozenset({"HOME", "LC_ALL", "PATH", "SOURCE_DATE_EPOCH", "TMPDIR", "USER"})
SCRATCH_BYTES = 700 << 20
IMAGE_BYTES = 200 << 20
# Hash randomization orders constant sets, and an unchecked hash spares the guest a comparison.
COMPILE = (
    'PYTHONHASHSEED=0 chroot "$1" sh -c "python3 -m compileall -q -f'
    ' --invalidation-mode unchecked-hash /usr/lib/python3*"'
)
# TCG would decompress in software what the host's page cache can simply hand over; of the
# kernel's decompressors only lz4 is built in, and the superblock must name one.
SQUASHFS_OPTIONS = (
    *("-comp", "lz4", "-noI", "-noD", "-noF", "-noX", "-no-xattrs"),
    *("-root-mode", "0755"),  # sqfstar takes the root's own entry from no tar: it would be 0777
    *("-no-progress", "-quiet"),
)


@dataclass(frozen=True)
class Recipe:
    """All that decides what an image is like.

    Args:
        suite: the Debian suite, and its `components`.
        variant: mmdebstrap's set of base packages.
        packages: what comes on top.
        drop: globs of paths that are removed at the end.
        files: files put into the image, by their absolute path there.
        epoch: the newest time stamp a file may have, seconds since 1970.
        steps: lines a build is known to print, for its progress.
    """

    suite: str
    components: tuple[str, ...]
    variant: str
    packages: tuple[str, ...]
    drop: tuple[str, ...]
    files: Mapping[str, Path]
    epoch: int
    steps: int

    @property
    def key(self) -> str:
        """Digest of the recipe and of every file it names."""
        return digest(
            {
                "suite": self.suite,
                "components": self.components,
                "variant": self.variant,
                "packages": self.packages,
                "drop": self.drop,
                "files": {name: file_digest(path) for name, path in self.files.items()},
                "epoch": self.epoch,
                "hooks": [COMPILE],
                "squashfs": SQUASHFS_OPTIONS,
            }
        )[:16]


@dataclass(frozen=True)
class Image:
    """A built root file system.

    Args:
        path: the squashfs.
        fstype: its type, as the kernel calls it.
        digest: of its content.
        suite: the Debian suite it comes from.
    """

    path: Path
    fstype: str
    digest: str
    suite: str

    @property
    def packages(self) -> dict[str, str]:
        """The version of every package in it."""
        facts = json.loads((self.path.parent / FACTS).read_text())
        return dict(facts["packages"])


def recipe(folder: Path = IMAGES) -> Recipe:
    """Read the recipe.

    Args:
        folder: the folder of rootfs.toml and the files it names.
    """
    data = tomllib.loads((folder / "rootfs.toml").read_text())
    return Recipe(
        suite=data["suite"],
        components=tuple(data["components"]),
        variant=data["variant"],
        packages=tuple(sorted(data["packages"])),
        drop=tuple(sorted(data["drop"])),
        files={f"/{target}": folder / name for name, target in sorted(data["files"].items())},
        epoch=data["epoch"],
        steps=data["steps"],
    )


def find(cache: Cache) -> Image | None:
    """Return the image of the current recipe if it is in the cache, else None."""
    entry = cache.find(KIND, recipe().key)
    return None if entry is None else _load(entry)


def obtain(cache: Cache) -> Image:
    """Return the image of the current recipe, building it if need be.

    Raises:
        HostError: a tool, a permission or disk space is missing.
        BuildError: a package could not be had or set up.
    """
    made = recipe()

    def build(scratch: Path) -> None:
        with progress.task(f"guest image (Debian {made.suite})", made.steps) as task:
            _build(made, scratch, cache.open().root / "logs" / f"image-{made.key}.log", task)

    return _load(cache.obtain(KIND, made.key, build))


def remove(cache: Cache) -> list[str]:
    """Delete every image in the cache and return their keys."""
    keys = cache.keys(KIND)
    for key in keys:
        cache.remove(KIND, key)
    return keys


def command(
    made: Recipe, mirror: apt.Mirror, scratch: Path, network: Sequence[str] = ()
) -> list[str]:
    """Return mmdebstrap's command line; it writes a tar to stdout.

    Args:
        made: the recipe.
        mirror: where packages come from.
        network: apt settings that it takes to get there.
        scratch: where the list of installed packages is put.
    """
    signed = "" if mirror.keyring is None else f"[signed-by={mirror.keyring}] "
    source = f"deb {signed}{mirror.uri} {made.suite} {' '.join(made.components)}"
    uploads = [shlex.join(["upload", os.fspath(path), name]) for name, path in made.files.items()]
    folders = sorted({str(Path(name).parent) for name in made.files})
    hooks = [
        "mkdir -p" + "".join(f' "$1"{folder}' for folder in folders),
        *uploads,
        f'chmod 0755 "$1"{_init(made)}',
        COMPILE,
        shlex.join(["download", "/var/lib/dpkg/status", os.fspath(scratch / "status")]),
    ]
    return [
        "mmdebstrap",
        "--mode=unshare",
        f"--variant={made.variant}",
        "--format=tar",
        "--verbose",
        f"--include={','.join(made.packages)}",
        *(f"--aptopt={setting}" for setting in network),
        *(f"--customize-hook={hook}" for hook in hooks),
        made.suite,
        "-",
        source,
    ]


def _init(made: Recipe) -> str:
    return next(name for name, path in made.files.items() if path.name == "init")


def _load(entry: Path) -> Image:
    facts = json.loads((entry / FACTS).read_text())
    return Image(entry / SQUASHFS, "squashfs", facts["digest"], facts["suite"])


def _build(made: Recipe, scratch: Path, log: Path, task: progress.Task) -> None:
    host.need("image")
    need_namespaces()
    host.need_space(Path(tempfile.gettempdir()), SCRATCH_BYTES, "a guest image's scratch folder")
    host.need_space(scratch, IMAGE_BYTES, "a guest image")
    squashfs = scratch / SQUASHFS
    steps = 0

    def follow(line: str) -> None:
        nonlocal steps
        if line.startswith(STEP_WORDS):
            steps += 1
        task.update(steps, note=line)

    pipeline(
        "build the guest image",
        command(made, apt.mirror(), scratch, _network()),
        [*_as_root(), "sqfstar", *SQUASHFS_OPTIONS, os.fspath(squashfs), *made.drop],
        log=log,
        on_line=follow,
        env=_environment(made),
    )
    status = scratch / "status"
    facts = {
        "digest": file_digest(squashfs),
        "suite": made.suite,
        "packages": installed(status.read_text()),
    }
    status.unlink()
    (scratch / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))


def _network() -> list[str]:
    # mmdebstrap starts apt without the host's configuration: proxies and certificates go along.
    question = ["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n']
    answer = subprocess.run(
        [*question, "Acquire::http", "Acquire::https"], check=True, capture_output=True, text=True
    )
    return answer.stdout.splitlines()


def _environment(made: Recipe) -> dict[str, str]:
    # Maintainer scripts inherit it, and a stray PYTHON* or DPKG_* would show in what they make.
    return {
        name: value
        for name, value in environment(SOURCE_DATE_EPOCH=str(made.epoch)).items()
        if name in KEPT_VARIABLES or name.lower().endswith("_proxy")
    }


def _as_root() -> list[str]:
    # sqfstar 4.5 gives the root folder to whoever runs it, whatever -root-uid says.
    return [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--"]


def installed(status: str) -> dict[str, str]:
    """Return the packages of a dpkg status file, and their versions."""
    return dict(re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", status, re.M | re.S))


def need_namespaces() -> None:
    """Check that this user can build a root file system whose files belong to root.

    Raises:
        HostError: with the command that allows it.
    """
    if os.geteuid() == 0:
        return
    user = pwd.getpwuid(os.geteuid()).pw_name
    for table in SUBORDINATE:
        owners = {line.split(":")[0] for line in _lines(table)}
        if not owners & {user, str(os.geteuid())}:
            raise HostError(
                f"building the guest image without root takes a range of ids for {user}",
                seen=f"none in {table}",
                hint=f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )
    command = ["unshare", "--user", "true"]
    probe = subprocess.run(command, check=False, capture_output=True, text=True)
    if probe.returncode != 0:
        raise HostError(
            "this host lets no plain user make a user namespace",
            seen=probe.stderr.strip(),
            hint=(
                "sudo sysctl kernel.unprivileged_userns_clone=1"
                " kernel.apparmor_restrict_unprivileged_userns=0 (whichever exists),"
                " or build the image as root"
            ),
        )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
