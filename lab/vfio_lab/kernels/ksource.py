"""The source package of a kernel: found in the archive once, then pinned and kept.

Backports and sid keep only their newest build, so the version that a series was first built
from is written down beside the entry and used until somebody asks for a newer one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vfio_lab.errors import HostError
from vfio_lab.util import apt, host, progress
from vfio_lab.util.cache import Cache
from vfio_lab.util.files import write_whole

KIND = "source"
FACTS = "source.json"
SOURCES = r"linux-source-\d+\.\d+"


@dataclass(frozen=True)
class Wanted:
    """Which package, and where to look for it.

    Args:
        package: name of the source package.
        suites: Debian suites, the first that has it wins.
    """

    package: str
    suites: tuple[str, ...]


def pinned(cache: Cache, wanted: Wanted) -> apt.Package | None:
    """Return the version that this cache is pinned to, None before the first fetch."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return apt.Package(**json.loads(_pin(cache, wanted).read_text()))
    return None


def ensure_source(cache: Cache, wanted: Wanted) -> tuple[apt.Package, Path]:
    """Return the pinned version and its file, fetching what is missing.

    Raises:
        HostError: the archive cannot be reached, or has no such package any more.
    """
    package = pinned(cache, wanted)
    entry = None if package is None else cache.find(KIND, _key(package))
    if package is None or entry is None:
        package, entry = fetch(cache, wanted)
    return package, next(entry.glob("*.deb"))


def fetch(cache: Cache, wanted: Wanted) -> tuple[apt.Package, Path]:
    """Pin the newest version in the archive and return it and its entry.

    What was pinned before stays until the new file is whole.

    Raises:
        HostError: the archive cannot be reached, or has no such package any more.
    """
    with progress.task(f"Fetching {wanted.package}", 100) as task, apt.session(cache) as tool:
        package = resolve(tool, wanted)
        task.update(0, note=f"{package.version} from {package.suite}")
        key = _key(package)
        entry = cache.obtain(KIND, key, lambda scratch: _download(tool, package, scratch, task))
    pin = _pin(cache, wanted)
    write_whole(pin, json.dumps(asdict(package), indent=1))
    for stale in cache.keys(KIND):
        if stale.startswith(f"{wanted.package}-") and stale != key:
            cache.remove(KIND, stale)
    return package, entry


def drop(cache: Cache, wanted: Wanted) -> None:
    """Delete the kept file of a package; kernels built from it stay, and so does the pin."""
    for key in cache.keys(KIND):
        if key.startswith(f"{wanted.package}-"):
            cache.remove(KIND, key)


def resolve(tool: apt.Apt, wanted: Wanted) -> apt.Package:
    """Return the newest version in the first suite that has the package.

    Raises:
        HostError: no suite has it; the error names the series that the last suites do have.
    """
    others: set[str] = set()
    for suite in wanted.suites:
        if not tool.update(suite):
            continue
        if (package := tool.candidate(wanted.package, suite)) is not None:
            return package
        others |= set(tool.names(SOURCES))
    raise HostError(
        f"the archive has no {wanted.package} any more",
        expected=f"it in one of {_list(wanted.suites)}",
        seen=_list(sorted(others)) or "no kernel source at all",
        hint="name a series that is there in images/kernels.toml",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


def _key(package: apt.Package) -> str:
    return f"{package.name}-{package.sha256[:16]}"


def _pin(cache: Cache, wanted: Wanted) -> Path:
    return cache.root / KIND / f"{wanted.package}.json"


def _download(tool: apt.Apt, package: apt.Package, scratch: Path, task: progress.Task) -> None:
    host.need_space(scratch, 2 * package.size_bytes, f"the source package {package.name}")
    note = f"{package.version} from {package.suite}"
    tool.download(package, scratch, lambda percent: task.update(percent, note=note))
    (scratch / FACTS).write_text(json.dumps(asdict(package), indent=1))
