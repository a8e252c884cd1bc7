"""The map of which scenarios run which lines of the kernel; `vfio-lab reach` makes it.

It goes by file, function and line within the function, so that it serves kernels whose lines have
other numbers. The lines of a function count only where its text is the same as in the map.
"""

from __future__ import annotations

import functools
import json
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from vfio_lab.errors import UsageError
from vfio_lab.util.resources import PACKAGE

SCHEMA = 1
FILE = PACKAGE / "spec/data/reach.json.xz"
# Scenarios are bits of an integer; those that only a template ran stand above the scenarios.
Scenarios = int


@dataclass(frozen=True)
class KnownFunction:
    """A function in the map.

    Args:
        digest: a digest of its text.
        lines: the scenarios that run each line of code, by its distance from the first line.
    """

    digest: str
    lines: Mapping[int, Scenarios]

    @functools.cached_property
    def scenarios(self) -> Scenarios:
        """The scenarios that run it."""
        return union(self.lines.values())


@dataclass(frozen=True)
class ReachMap:
    """Which scenarios run which code.

    Args:
        kernel: the version of the kernel that ran.
        made: the day when the map was made, as in ISO 8601.
        names: the node IDs of the scenarios.
        templates: the scenarios of each template.
        effort: how many lines each scenario runs.
        files: the functions of each file by name.
        headers: the files that include each header.
    """

    kernel: str
    made: str
    names: tuple[str, ...]
    templates: tuple[Scenarios, ...]
    effort: tuple[int, ...]
    files: Mapping[str, Mapping[str, KnownFunction]]
    headers: Mapping[str, tuple[str, ...]]

    def of_file(self, path: str) -> Scenarios:
        """Return the scenarios that run code of a file."""
        return union(one.scenarios for one in self.files.get(path, {}).values())

    def of_folder(self, folder: PurePath) -> Scenarios:
        """Return the scenarios that run code of the files below a folder."""
        inside = (path for path in self.files if PurePath(path).is_relative_to(folder))
        return union(map(self.of_file, inside))

    @property
    def everything(self) -> Scenarios:
        """All scenarios."""
        return (1 << len(self.names)) - 1

    def own(self, found: Scenarios) -> Scenarios:
        """Return the scenarios that run code themselves, without those whose template ran it."""
        return found & self.everything

    def all_of(self, found: Scenarios) -> Scenarios:
        """Return the scenarios that run code, and those of the templates that ran it."""
        above = found >> len(self.names)
        ran = (one for number, one in enumerate(self.templates) if above >> number & 1)
        return self.own(found) | union(ran)


def joined(old: ReachMap, new: ReachMap) -> ReachMap:
    """Return a map with the scenarios of two.

    Args:
        old: a map.
        new: a map of other scenarios on the same kernel.

    Raises:
        UsageError: the kernels differ.
    """
    if _texts(old) != _texts(new):
        raise UsageError(
            "cannot add scenarios to the map",
            expected=f"a run on kernel {old.kernel}, of which the map is",
            seen=f"a run on kernel {new.kernel}, whose code reads otherwise",
            hint="record all scenarios again",
        )
    count, templates = len(old.names), len(old.templates)
    total = count + len(new.names)

    def of_old(found: Scenarios) -> Scenarios:
        return old.own(found) | found >> count << total

    def of_new(found: Scenarios) -> Scenarios:
        return new.own(found) << count | found >> len(new.names) << total + templates

    def both(one: KnownFunction, other: KnownFunction) -> KnownFunction:
        lines = {at: of_old(ran) | of_new(other.lines[at]) for at, ran in one.lines.items()}
        return KnownFunction(one.digest, lines)

    return ReachMap(
        old.kernel,
        new.made,
        (*old.names, *new.names),
        (*map(of_old, old.templates), *map(of_new, new.templates)),
        (*old.effort, *new.effort),
        {
            path: {name: both(one, new.files[path][name]) for name, one in functions.items()}
            for path, functions in old.files.items()
        },
        old.headers,
    )


def _texts(reach: ReachMap) -> dict[str, dict[str, tuple[str, list[int]]]]:
    """Return the digests and the counted lines of the functions in a map."""
    return {
        path: {name: (one.digest, sorted(one.lines)) for name, one in functions.items()}
        for path, functions in reach.files.items()
    }


def union(found: Iterable[Scenarios]) -> Scenarios:
    """Return the scenarios that are in any of some sets."""
    return functools.reduce(int.__or__, found, 0)


def members(found: Scenarios) -> Iterator[int]:
    """Yield the numbers of the scenarios in a set."""
    while found:
        lowest = found & -found
        yield lowest.bit_length() - 1
        found ^= lowest


def covering(reach: ReachMap, folders: Sequence[PurePath]) -> list[str]:
    """Return scenarios that together run each line below some folders that any scenario runs.

    Args:
        reach: the map.
        folders: folders of the kernel's sources.
    """
    inside = [
        reach.own(found)
        for path, functions in reach.files.items()
        if any(PurePath(path).is_relative_to(folder) for folder in folders)
        for one in functions.values()
        for found in one.lines.values()
    ]
    runs = [0] * len(reach.names)  # the lines of each scenario, as bits
    for line, found in enumerate(inside):
        for number in members(found):
            runs[number] |= 1 << line
    left, chosen = union(runs), []
    while left:
        best = max(range(len(runs)), key=lambda number: (runs[number] & left).bit_count())
        chosen.append(reach.names[best])
        left &= ~runs[best]
    return chosen


@functools.cache
def load_reach(path: Path = FILE) -> ReachMap:
    """Return the map that is shipped with the lab."""
    data = json.loads(lzma.decompress(path.read_bytes()))
    assert data["schema"] == SCHEMA
    sets = [int(one, 16) for one in data["sets"]]
    files = {
        path: {name: _known(one, sets) for name, one in functions.items()}
        for path, functions in data["files"].items()
    }
    paths = list(files)
    return ReachMap(
        data["kernel"],
        data["made"],
        tuple(data["scenarios"]),
        tuple(int(one, 16) for one in data["templates"]),
        tuple(data["effort"]),
        files,
        {
            header: tuple(paths[number] for number in members(int(one, 16)))
            for header, one in data["headers"].items()
        },
    )


def _known(one: Sequence[str], sets: Sequence[Scenarios]) -> KnownFunction:
    digest, lines = one
    pairs = (pair.split(":") for pair in lines.split())
    return KnownFunction(digest, {int(at): sets[int(number)] for at, number in pairs})


def write_reach(reach: ReachMap, path: Path) -> None:
    """Write a map; the same map gives the same bytes."""
    sets: dict[Scenarios, int] = {}
    files = {
        name: {function: [one.digest, _lines(one, sets)] for function, one in functions.items()}
        for name, functions in reach.files.items()
    }
    numbers = {name: number for number, name in enumerate(reach.files)}
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "kernel": reach.kernel,
        "made": reach.made,
        "scenarios": reach.names,
        "templates": [f"{one:x}" for one in reach.templates],
        "effort": reach.effort,
        "sets": [f"{one:x}" for one in sets],
        "files": files,
        "headers": {
            header: f"{union(1 << numbers[one] for one in including):x}"
            for header, including in reach.headers.items()
        },
    }
    text = json.dumps(data, separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def _lines(one: KnownFunction, sets: dict[Scenarios, int]) -> str:
    return " ".join(
        f"{at}:{sets.setdefault(found, len(sets))}" for at, found in sorted(one.lines.items())
    )
