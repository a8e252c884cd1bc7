"""Claims: sentences about behaviour, each with a source and the kernels it holds on.

They are data (`spec/data/claims-*.toml`, `areas.toml`, `threads.toml`, and files of extensions).
Scenarios cite them by ID.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vfio_lab.errors import UsageError
from vfio_lab.spec import changes
from vfio_lab.spec.changes import Change
from vfio_lab.spec.tables import read_table
from vfio_lab.util.project import once_a_project
from vfio_lab.util.registry import Registry

ID = re.compile(r"(?P<area>[A-Z]+)(?P<number>\d+)")


@dataclass(frozen=True)
class Area:
    """An area of behaviour that claims belong to.

    Args:
        letter: the letter or letters that begin the IDs of its claims.
        word: the area's name and the name of its folder of scenarios.
        title: a description.
    """

    letter: str
    word: str
    title: str

    def __str__(self) -> str:
        """Return letter, word and title."""
        return f"{self.letter}, {self.word}: {self.title}"


@dataclass(frozen=True)
class Thread:
    """A mailing list thread that claims come from.

    Args:
        id: the year and a name.
        title: the subject.
        link: the address in a public archive, empty for mainline.
    """

    id: str
    title: str
    link: str = ""


class Status(enum.Enum):
    """Whether a scenario shows a claim."""

    SHOWN = "shown"
    PLANNED = "planned"
    NOT_HERE = "not here"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Args:
        id: the area's letter and a number, `A02`.
        sentence: the claim as a sentence.
        thread: the ID of the thread that it comes from.
        source: the kernel file:function that implements it.
        status: whether a scenario shows it.
        since: changes that a kernel must have for it to hold.
        until: changes that ended it.
        needs: kernel options that are needed to test it.
        arch: the architectures that it is about, as printed by `uname -m`; all if empty.
        where: other requirements, such as a kind of hardware or a tool.
        why: why it is not shown.
        origin: the document, CVE or commit that states it, if no thread does.
        should: what the kernel should do instead, if it is a fault that the claim describes.
    """

    id: str
    sentence: str
    thread: str
    source: str
    status: Status
    since: tuple[Change, ...] = ()
    until: tuple[Change, ...] = ()
    needs: tuple[str, ...] = ()
    arch: tuple[str, ...] = ()
    where: str = ""
    why: str = ""
    origin: str = ""
    should: str = ""

    @property
    def area(self) -> str:
        """The letter of the claim's area."""
        return order(self.id)[0]

    @property
    def shown(self) -> bool:
        """Whether a scenario shows the claim."""
        return self.status is Status.SHOWN

    def kernels(self) -> str:
        """Return the range of kernels that the claim holds on, as changes."""
        words = [f"since {change.id}" for change in self.since] + [
            f"until {change.id}" for change in self.until
        ]
        return ", ".join(words) or "all"


class Validity(enum.Enum):
    """Whether a claim holds on a kernel."""

    HOLDS = "holds"
    NOT_YET = "not yet true"
    ENDED = "no longer true"


@dataclass(frozen=True)
class Expectation:
    """Whether a claim is expected to hold on a kernel, and why.

    Args:
        outcome: whether the claim holds.
        change: the change that is missing, or that ended it.
    """

    outcome: Validity
    change: Change | None = None

    def __bool__(self) -> bool:
        """Whether the claim holds."""
        return self.outcome is Validity.HOLDS

    def __str__(self) -> str:
        """Return the outcome and the change that explains it."""
        if self.change is None:
            return self.outcome.value
        joined = "before" if self.outcome is Validity.NOT_YET else "since"
        return f"{self.outcome.value}: {joined} {self.change}"


def expectation(claim: Claim, has: Callable[[Change], bool]) -> Expectation:
    """Return whether a claim is expected to hold on a kernel with certain changes.

    Args:
        claim: the claim.
        has: returns whether the kernel has a change.
    """
    for change in claim.since:
        if not has(change):
            return Expectation(Validity.NOT_YET, change)
    for change in claim.until:
        if has(change):
            return Expectation(Validity.ENDED, change)
    return Expectation(Validity.HOLDS)


def order(claim_id: str) -> tuple[str, int]:
    """Return the sort key of a claim: area, then number.

    Raises:
        UsageError: this is not a claim's ID.
    """
    match = ID.fullmatch(claim_id)
    if match is None:
        raise UsageError(
            f"{claim_id} is not a claim's ID", expected="letters of an area, and a number"
        )
    return match["area"], int(match["number"])


@once_a_project
def areas() -> Registry[Area]:
    """Return the areas by name."""
    return read_table("area", "word", lambda entry: Area(**entry))


@once_a_project
def threads() -> Registry[Thread]:
    """Return the threads by ID."""
    return read_table("thread", "id", lambda entry: Thread(**entry))


@once_a_project
def load_claims() -> Registry[Claim]:
    """Return the claims by ID, ordered by area and number.

    Raises:
        UsageError: a claim's area or thread is unknown, or two claims have one ID.
    """
    found = read_table("claim", "id", _claim)
    letters = [area.letter for area in areas().values()]
    _ = [area_called(claim.area) for claim in found.values()]
    ids = sorted(found, key=lambda name: (letters.index(found[name].area), order(name)))
    return Registry("claim", {name: found[name] for name in ids})


def area_called(name: str) -> Area:
    """Return the area with a letter or name, in upper or lower case.

    Raises:
        UsageError: there is no such area.
    """
    for area in areas().values():
        if name.lower() in (area.letter.lower(), area.word):
            return area
    return areas()[name]


def select(thread: str | None = None, area: str | None = None) -> list[Claim]:
    """Return all claims, or those that belong to a thread and to an area.

    Args:
        thread: the ID of a thread.
        area: the letter or name of an area, in upper or lower case.

    Raises:
        UsageError: there is no such thread or area.
    """
    letter = area_called(area).letter if area is not None else None
    if thread is not None:
        _ = threads()[thread]
    return [
        claim
        for claim in load_claims().values()
        if thread in (None, claim.thread) and letter in (None, claim.area)
    ]


def _claim(entry: Mapping[str, Any]) -> Claim:
    registry = changes.load_changes()
    return Claim(
        id=str(entry["id"]),
        sentence=str(entry["sentence"]),
        thread=str(entry["thread"]),
        source=str(entry["source"]),
        status=Status(entry.get("status", Status.PLANNED.value)),
        since=tuple(registry[change] for change in entry.get("since", ())),
        until=tuple(registry[change] for change in entry.get("until", ())),
        needs=tuple(entry.get("needs", ())),
        arch=tuple(entry.get("arch", ())),
        where=str(entry.get("where", "")),
        why=str(entry.get("why", "")),
        origin=str(entry.get("origin", "")),
        should=str(entry.get("should", "")),
    )
