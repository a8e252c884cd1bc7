"""Kernel commits that altered a claim, and the releases that carry them.

Stable releases contain backports. A version therefore has a change if it is not older than the
mainline release with the change, or than the stable release of its own series with the backport.
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
# The line of a Debian changelog that names the upstream release of the subjects below it.
SERIES_PARTS = 2


def parse_version(text: str) -> Version:
    """Return the numbers at the start of a kernel version or release string.

    Raises:
        UsageError: the text does not start with a version.
    """
    match = PATTERN.match(text)
    if match is None:
        raise UsageError(
            "this is not a kernel version", expected="numbers such as 6.12.117", seen=repr(text)
        )
    return tuple(int(part) for part in match[0].split("."))


def version_of(release: str, built: str) -> Version:
    """Return a kernel's version; on Debian from `built`, as the release lacks the stable number.

    Args:
        release: the output of `uname -r`.
        built: the output of `uname -v`.

    Raises:
        UsageError: neither contains a version.
    """
    debian = DEBIAN.search(built)
    return parse_version(debian[1] if debian else release)


@dataclass(frozen=True)
class Change:
    """A commit, or a named step of a series where no commit is known.

    Args:
        id: the first twelve digits of its mainline hash, or a name.
        subject: the commit's subject, or a description.
        mainline: the first mainline release known to have it.
        after: the newest release known to lack it, if the first release with it is not certain.
        stable: the stable releases that added it.
        reverted: the stable releases that reverted it.
        evidence: the source of these facts.
        undone: the first mainline release in which another commit had undone it, if one did.
    """

    id: str
    subject: str
    mainline: Version
    after: Version | None
    stable: tuple[Version, ...]
    reverted: tuple[Version, ...]
    evidence: str
    undone: Version | None = None

    def in_version(self, version: Version) -> bool:
        """Whether a kernel of that version has the change."""
        if self.undone is not None and version >= self.undone:
            return False
        if version >= self.mainline:
            return True
        return _reached(self.stable, version) and not _reached(self.reverted, version)

    def first_release(self) -> str:
        """Return the mainline release in words: `6.17`, or `6.13 to 7.2` if it is not certain."""
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
    """Whether a version is at or after the release of its own series among `releases`."""
    series = version[:SERIES_PARTS]
    return any(known[:SERIES_PARTS] == series and version >= known for known in releases)


def _change(entry: Mapping[str, str | list[str]]) -> Change:
    after, undone = entry.get("after"), entry.get("undone")
    return Change(
        id=str(entry["id"]),
        subject=str(entry["subject"]),
        mainline=parse_version(str(entry["mainline"])),
        after=None if after is None else parse_version(str(after)),
        stable=tuple(parse_version(text) for text in entry.get("stable", ())),
        reverted=tuple(parse_version(text) for text in entry.get("reverted", ())),
        undone=None if undone is None else parse_version(str(undone)),
        evidence=str(entry["evidence"]),
    )
