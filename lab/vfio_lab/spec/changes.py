"""Kernel commits that altered a claim, and the releases that carry them.

Stable releases carry backports, so a kernel's number alone says little: a change is in a
version when its mainline release or the backport to that version's own series is not newer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vfio_lab.errors import UsageError
from vfio_lab.spec.tables import read_table
from vfio_lab.util.project import once_a_project
from vfio_lab.util.registry import Registry

Version = tuple[int, ...]
PATTERN = re.compile(r"\d+(\.\d+)+")
# "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"
DEBIAN = re.compile(r"\bDebian (\d+\.\d+\.\d+)")
# Where a Debian changelog says which upstream release the following subjects came with.
SERIES_PARTS = 2


def parse_version(text: str) -> Version:
    """Return the numbers at the start of a kernel version, of a release string too.

    Raises:
        UsageError: the text does not start with a version.
    """
    match = PATTERN.match(text)
    if match is None:
        raise UsageError(
            "this is no kernel version", expected="numbers such as 6.12.117", seen=repr(text)
        )
    return tuple(int(part) for part in match[0].split("."))


def version_of(release: str, built: str) -> Version:
    """Return a kernel's version; Debian's release string has no stable number.

    Args:
        release: as `uname -r` says it.
        built: as `uname -v` says it.

    Raises:
        UsageError: neither has a version.
    """
    debian = DEBIAN.search(built)
    return parse_version(debian[1] if debian else release)


@dataclass(frozen=True)
class Change:
    """A commit, or a named step of a series where no commit is known.

    Args:
        id: the first twelve digits of its mainline hash, or a name.
        subject: its subject, or what it did.
        mainline: the first release known to carry it.
        after: the newest release known to lack it, where the first one is not pinned down.
        stable: the releases in which stable series got it.
        reverted: the releases in which stable series lost it again.
        evidence: where all that is known from.
    """

    id: str
    subject: str
    mainline: Version
    after: Version | None
    stable: tuple[Version, ...]
    reverted: tuple[Version, ...]
    evidence: str

    def in_version(self, version: Version) -> bool:
        """Whether a kernel of that version carries the change."""
        if version >= self.mainline:
            return True
        return _reached(self.stable, version) and not _reached(self.reverted, version)

    def first_release(self) -> str:
        """Return the mainline release in words: `6.17`, or `6.13 to 7.2` if not pinned down."""
        first = ".".join(map(str, self.mainline))
        if self.after is None:
            return first
        return f"after {'.'.join(map(str, self.after))}, by {first}"

    def __str__(self) -> str:
        """Return ID, subject and first release."""
        return f'{self.id} ("{self.subject}", {self.first_release()})'


@once_a_project
def load_changes() -> Registry[Change]:
    """Return the changes of `lab/vfio_lab/spec/data/changes.toml` and of extensions."""
    return read_table("change", "id", _change)


def _reached(releases: Iterable[Version], version: Version) -> bool:
    """Whether a version is that of its own series among the releases, or a later one."""
    series = version[:SERIES_PARTS]
    return any(one[:SERIES_PARTS] == series and version >= one for one in releases)


def _change(entry: Mapping[str, str | list[str]]) -> Change:
    after = entry.get("after")
    return Change(
        id=str(entry["id"]),
        subject=str(entry["subject"]),
        mainline=parse_version(str(entry["mainline"])),
        after=None if after is None else parse_version(str(after)),
        stable=tuple(parse_version(one) for one in entry.get("stable", ())),
        reverted=tuple(parse_version(one) for one in entry.get("reverted", ())),
        evidence=str(entry["evidence"]),
    )
