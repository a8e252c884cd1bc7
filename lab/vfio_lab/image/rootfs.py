"""The guests' root file systems: a read-only squashfs built from a list of packages, without root.

Source: images/rootfs.toml lists the contents and the reasons; mmdebstrap(1) builds them.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.errors import HostError, UsageError
from vfio_lab.image.recipe import IMAGES, SQUASHFS_OPTIONS, Recipe, command, network
from vfio_lab.util import apt, host, progress
from vfio_lab.util.cache import Cache, file_digest
from vfio_lab.util.extensions import join, load_extensions
from vfio_lab.util.process import environment, pipeline

KIND = "image"
BASE = "base"
CATALOGUE = "rootfs.toml"
SQUASHFS = "root.squashfs"
FACTS = "image.json"
SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))
STEP_WORDS = ("Get:", "Unpacking ", "Setting up ")
KEPT_VARIABLES = frozenset({"HOME", "LC_ALL", "PATH", "SOURCE_DATE_EPOCH", "TMPDIR", "USER"})
SCRATCH_FACTOR = 3.5  # scratch space of a build, as a multiple of the image's size
# sqfstar ends at the end of the archive, and may leave mmdebstrap with padding that nobody reads.
DRAINED = ("sh", "-c", '"$@"; code=$?; cat >/dev/null; exit "$code"', "sh")


@dataclass(frozen=True)
class Image:
    """A built root file system.

    Args:
        name: the recipe's name.
        path: the squashfs.
        fstype: the kernel's name of the file system type.
        digest: the digest of the squashfs.
        suite: the Debian suite of its packages.
        extras: additions to the payload of its guests.
    """

    name: str
    path: Path
    fstype: str
    digest: str
    suite: str
    extras: tuple[str, ...]

    @property
    def packages(self) -> dict[str, str]:
        """The versions of the packages in the image, by package name."""
        facts = json.loads((self.path.parent / FACTS).read_text())
        return dict(facts["packages"])


def recipes(folder: Path = IMAGES) -> Mapping[str, Recipe]:
    """Read the recipes of the lab and of extensions.

    Args:
        folder: the folder with rootfs.toml and the files that it names.

    Raises:
        UsageError: two recipes have one name.
    """
    data = tomllib.loads((folder / CATALOGUE).read_text())
    own: dict[str, dict[str, Any]] = data.pop("images")
    places = [
        (folder, {BASE: _recipe(BASE, data, folder)}),
        (folder, _images(data, own, folder, folder)),
    ]
    for place in (extension.folder / IMAGES.name for extension in load_extensions()):
        if (path := place / CATALOGUE).is_file():
            tables = tomllib.loads(path.read_text("utf-8"))["images"]
            places.append((place, _images(data, tables, place, folder)))
    return join("image", places)


def _images(
    base: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], place: Path, folder: Path
) -> dict[str, Recipe]:
    """Return the recipes of a table `images` in `place`, which extend the base of `folder`."""
    made = {}
    for name, table in tables.items():
        files = {
            os.path.relpath(place / file, folder): to for file, to in table.get("files", {}).items()
        }
        merged = {**base, **table, **_merged(base, {**table, "files": files})}
        made[name] = _recipe(name, merged, folder)
    return made


def _merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {key: base[key] | extra.get(key, {}) for key in ("packages", "drop", "files")}


def _recipe(name: str, data: Mapping[str, Any], folder: Path) -> Recipe:
    return Recipe(
        name=name,
        suite=data["suite"],
        components=tuple(data["components"]),
        variant=data["variant"],
        packages=tuple(sorted(data["packages"])),
        drop=tuple(sorted(data["drop"])),
        files={f"/{target}": folder / file for file, target in sorted(data["files"].items())},
        epoch=data["epoch"],
        steps=data["steps"],
        size_mib=data["size_mib"],
        extras=tuple(data["extras"]),
        only=tuple(data.get("architectures", ())),
    )


def recipe(name: str = BASE, folder: Path = IMAGES, architecture: Architecture = X86_64) -> Recipe:
    """Return a recipe.

    Args:
        name: its name in the catalogue.
        folder: the folder with rootfs.toml.
        architecture: the architecture of the guests.

    Raises:
        UsageError: there is none of that name.
    """
    known = recipes(folder)
    if name not in known:
        raise UsageError(f"there is no image {name!r}", expected=f"one of {', '.join(known)}")
    return replace(known[name], architecture=architecture)


def find_image(cache: Cache, name: str = BASE) -> Image | None:
    """Return an image if it is in the cache and current, else None.

    Raises:
        UsageError: there is no recipe of that name.
    """
    made = recipe(name)
    entry = cache.find(KIND, made.key)
    return None if entry is None else _load(entry, made)


def ensure_image(cache: Cache, name: str = BASE, architecture: Architecture = X86_64) -> Image:
    """Return an image; build it if necessary.

    Args:
        cache: the cache that keeps images.
        name: its name in the catalogue.
        architecture: the architecture of the guests.

    Raises:
        UsageError: there is no recipe of that name.
        HostError: a tool, a permission or disk space is missing.
        BuildError: a package cannot be fetched or set up.
    """
    made = recipe(name, architecture=architecture)
    if made.only and architecture.name not in made.only:
        raise UsageError(
            f"image {name!r} is not made for {architecture.name}", expected=", ".join(made.only)
        )
    title = f"guest image {name} (Debian {made.suite}, {architecture.debian})"

    def build(scratch: Path) -> None:
        with progress.task(title, made.steps) as task:
            _build(made, scratch, cache.open().root / "logs" / f"image-{made.key}.log", task)

    return _load(cache.obtain(KIND, made.key, build, inputs=made.inputs), made)


def remove_image(cache: Cache) -> list[str]:
    """Delete every image in the cache and return their keys."""
    keys = cache.keys(KIND)
    for key in keys:
        cache.remove(KIND, key)
    return keys


def _load(entry: Path, made: Recipe) -> Image:
    facts = json.loads((entry / FACTS).read_text())
    path = entry / SQUASHFS
    return Image(made.name, path, "squashfs", facts["digest"], facts["suite"], made.extras)


def _build(made: Recipe, scratch: Path, log: Path, task: progress.Task) -> None:
    host.need("image")
    need_namespaces()
    size_bytes = made.size_mib << 20
    work = Path(tempfile.gettempdir())
    host.need_space(work, int(SCRATCH_FACTOR * size_bytes), "a guest image's scratch folder")
    host.need_space(scratch, size_bytes, "a guest image")
    squashfs = scratch / SQUASHFS
    steps = 0

    def follow(line: str) -> None:
        nonlocal steps
        if line.startswith(STEP_WORDS):
            steps += 1
        task.update(steps, note=line)

    pipeline(
        "build the guest image",
        command(made, apt.mirror(), scratch, network()),
        [*_as_root(), *DRAINED, "sqfstar", *SQUASHFS_OPTIONS, os.fspath(squashfs), *made.drop],
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


def _environment(made: Recipe) -> dict[str, str]:
    # Maintainer scripts inherit it, and a stray PYTHON* or DPKG_* would change their output.
    return {
        name: value
        for name, value in environment(SOURCE_DATE_EPOCH=str(made.epoch)).items()
        if name in KEPT_VARIABLES or name.lower().endswith("_proxy")
    }


def _as_root() -> list[str]:
    # In sqfstar 4.5 the root folder belongs to the calling user, despite -root-uid.
    return [] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--"]


def installed(status: str) -> dict[str, str]:
    """Return the versions of the packages in a dpkg status file, by package name."""
    return dict(re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", status, re.M | re.S))


def need_namespaces() -> None:
    """Check that this user can build a root file system whose files belong to root.

    Raises:
        HostError: the user cannot; the hint is the command that allows it.
    """
    if os.geteuid() == 0:
        return
    user = pwd.getpwuid(os.geteuid()).pw_name
    for table in SUBORDINATE:
        owners = {line.split(":")[0] for line in _lines(table)}
        if not owners & {user, str(os.geteuid())}:
            raise HostError(
                f"building the guest image without root needs subordinate ids for {user}",
                seen=f"no range in {table}",
                hint=f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )
    command = ["unshare", "--user", "true"]
    probe = subprocess.run(command, check=False, capture_output=True, text=True)
    if probe.returncode != 0:
        raise HostError(
            "this host does not let unprivileged users create user namespaces",
            seen=probe.stderr.strip(),
            hint=(
                "sudo sysctl kernel.unprivileged_userns_clone=1"
                " kernel.apparmor_restrict_unprivileged_userns=0 (whichever exists),"
                " or build the image as root"
            ),
        )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
