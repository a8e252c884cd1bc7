"""The packages that kernels are built from: found in the archive once, then pinned and kept.

Backports and sid keep their newest build only. The version that a series was first built from is
therefore recorded beside the entry, and used until a user asks for a newer one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vfio_lab.errors import HostError
from vfio_lab.util import apt, host, progress
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.files import write_whole

KIND = "source"
FACTS = "source.json"
SOURCES = r"linux-source-\d+\.\d+"


@dataclass(frozen=True)
class Wanted:
    """A package and the suites to search for it.

    Args:
        package: the package's name.
        suites: Debian suites; the first one that has it is used; security updates are included.
        follow: a pattern; dependencies with matching names are fetched too.
        label: the name of its entry, by default the package's name.
        architecture: Debian's name of its architecture, the host's if empty.
    """

    package: str
    suites: tuple[str, ...]
    follow: str = ""
    label: str = ""
    architecture: str = ""

    @property
    def name(self) -> str:
        """The name of its entry."""
        name = self.label or self.package
        return f"{name}-{self.architecture}" if self.architecture else name


def pinned(cache: Cache, wanted: Wanted) -> apt.Package | None:
    """Return the version that this cache is pinned to, None before the first fetch."""
    return next(iter(pinned_all(cache, wanted)), None)


def pinned_all(cache: Cache, wanted: Wanted) -> tuple[apt.Package, ...]:
    """Return a pinned package and those fetched with it, nothing before the first fetch."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = json.loads(_pin(cache, wanted).read_text())
        return tuple(
            apt.Package(**fields) for fields in (known if isinstance(known, list) else [known])
        )
    return ()


def pinned_entry(cache: Cache, wanted: Wanted) -> Path | None:
    """Return the folder with the pinned packages, None if it is not in the cache."""
    packages = pinned_all(cache, wanted)
    return cache.find(KIND, _key(wanted, packages)) if packages else None


def looked_up(cache: Cache, wanted: Wanted) -> float | None:
    """Return the time of the last check for the newest version, in seconds since 1970."""
    with contextlib.suppress(OSError):
        return _pin(cache, wanted).stat().st_mtime
    return None


def ensure_source(cache: Cache, wanted: Wanted) -> tuple[apt.Package, Path]:
    """Return the pinned version and its file; fetch what is missing.

    Raises:
        HostError: the archive cannot be reached, or has no such package any more.
    """
    packages, entry = ensure_packages(cache, wanted)
    return packages[0], next(entry.glob("*.deb"))


def ensure_packages(cache: Cache, wanted: Wanted) -> tuple[tuple[apt.Package, ...], Path]:
    """Return the pinned packages and the folder with their files; fetch what is missing.

    Raises:
        HostError: the archive cannot be reached, or has no such package any more.
    """
    entry = pinned_entry(cache, wanted)
    return (pinned_all(cache, wanted), entry) if entry else fetch_all(cache, wanted)


def fetch(cache: Cache, wanted: Wanted) -> tuple[apt.Package, Path]:
    """Pin the newest version in the archive; return the package and its entry.

    Raises:
        HostError: the archive cannot be reached, or has no such package any more.
    """
    packages, entry = fetch_all(cache, wanted)
    return packages[0], entry


def fetch_all(cache: Cache, wanted: Wanted) -> tuple[tuple[apt.Package, ...], Path]:
    """Pin the newest version in the archive with its dependencies; return them and their entry.

    The previous pin stays until the new files are complete.

    Raises:
        HostError: the archive cannot be reached, or has no such package any more.
    """
    with (
        progress.task(f"Fetching {wanted.name}", 100) as task,
        apt.session(cache, architecture=wanted.architecture) as tool,
    ):
        packages = _followed(tool, resolve(tool, wanted), wanted.follow)
        task.update(0, note=f"{packages[0].version} from {packages[0].suite}")
        key = _key(wanted, packages)
        entry = cache.obtain(KIND, key, lambda scratch: _download(tool, packages, scratch, task))
    pin = _pin(cache, wanted)
    write_whole(pin, _written(packages))
    for stale in cache.keys(KIND):
        if stale.startswith(f"{wanted.name}-") and stale != key:
            cache.remove(KIND, stale)
    return packages, entry


def drop(cache: Cache, wanted: Wanted) -> None:
    """Delete the file of a package; kernels built from it and the pin stay."""
    for key in cache.keys(KIND):
        if key.startswith(f"{wanted.name}-"):
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


def _followed(tool: apt.Apt, first: apt.Package, pattern: str) -> tuple[apt.Package, ...]:
    """Return a package and its dependencies whose names match a pattern."""
    if not pattern:
        return (first,)
    suite = first.suite.removesuffix(apt.SECURITY)
    names = [name for name in tool.needs(first.name) if re.fullmatch(pattern, name)]
    found = {name: tool.candidate(name, suite) for name in names}
    if missing := [name for name, package in found.items() if package is None]:
        raise HostError(
            f"the archive's {first.name} is not complete",
            expected=f"{missing[0]} beside it",
            seen=f"no such package in {first.suite}",
            hint="the archive may be in the middle of an update: try again later",
        )
    return (first, *(package for package in found.values() if package))


def _key(wanted: Wanted, packages: Sequence[apt.Package]) -> str:
    sums = [package.sha256 for package in packages]
    return f"{wanted.name}-{(sums[0] if len(sums) == 1 else digest(sums))[:16]}"


def _pin(cache: Cache, wanted: Wanted) -> Path:
    return cache.root / KIND / f"{wanted.name}.json"


def _download(
    tool: apt.Apt, packages: Sequence[apt.Package], scratch: Path, task: progress.Task
) -> None:
    whole = sum(package.size_bytes for package in packages)
    host.need_space(scratch, 2 * whole, f"the package {packages[0].name}")
    note = f"{packages[0].version} from {packages[0].suite}"
    had = 0
    for each in packages:
        share = each.size_bytes / whole

        def follow(percent: float, before: float = had / whole, share: float = share) -> None:
            task.update(100 * before + percent * share, note=note)

        tool.download(each, scratch, follow)
        had += each.size_bytes
    (scratch / FACTS).write_text(_written(packages))


def _written(packages: Sequence[apt.Package]) -> str:
    facts = [asdict(package) for package in packages]
    return json.dumps(facts[0] if len(facts) == 1 else facts, indent=1)
