"""The scenarios that a patch can reach, by the map of which scenarios run which lines.

A scenario that runs none of the lines that a patch replaces, and none beside the lines that it
adds, does on the patched kernel what it did before. Where the map cannot say as much, more is
chosen: those that run the function, the file, a file that includes the header, the folder, all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from vfio_lab.campaign.reach import KnownFunction, ReachMap, Scenarios, members, union
from vfio_lab.campaign.wording import shared_words
from vfio_lab.kernels import csource
from vfio_lab.kernels.csource import CFunction, FileChange, Hunk
from vfio_lab.kernels.trial import is_built

# Lines that say where control goes, and are not counted themselves.
STRUCTURE = re.compile(r"^\s*(case\b|default\s*:|\w+:\s*$|#)")
BRACE = re.compile(r"[{}]")
# Lines outside of functions that do nothing by themselves.
HARMLESS = re.compile(r"^(EXPORT_SYMBOL\w*\(.*\);|[a-z_][\w\s*]*[\s*][a-z_]\w*\([^()]*\);)$")


@dataclass(frozen=True)
class ChangedPlace:
    """What a patch changes in one function, or elsewhere in a file.

    Args:
        name: the function or the file, in words.
        parts: the scenarios that reach each part of the change.
        beyond: the scenarios that run what is around it, for a change that none reaches.
        why: why these scenarios are chosen.
        functions: the functions in the map that the change is in.
    """

    name: str
    parts: tuple[Scenarios, ...]
    beyond: Scenarios
    why: str
    functions: tuple[KnownFunction, ...] = ()

    @property
    def found(self) -> Scenarios:
        """The scenarios that reach the change."""
        return union(self.parts)


@dataclass(frozen=True)
class ReachSelection:
    """The scenarios that a patch can reach.

    Args:
        scenarios: their node IDs, the narrowest first; one without parameters stands for all.
        count: how many they are.
        total: of how many.
        reasons: a line for each place that the patch changes.
    """

    scenarios: tuple[str, ...]
    count: int
    total: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Return how many scenarios of how many, and why, in some lines."""
        head = f"{self.count} of {self.total} scenarios can reach the patch"
        return "\n".join([head, *(f"  {reason}" for reason in self.reasons)])


def select_scenarios(
    reach: ReachMap, changes: Iterable[FileChange], known: Sequence[str]
) -> ReachSelection:
    """Return the scenarios that a patch can reach, those that say most about it first.

    First come those that run the rarest of the changed lines, then those whose names and claims
    share rare words with the changed lines, then those that run more of what few others run in the
    changed functions, then those that run the fewest lines in all. Scenarios whose template alone
    ran a changed line, and those that the map does not have, come last.

    Args:
        reach: the map.
        changes: the files that the patch changes.
        known: the node IDs of all scenarios.
    """
    changes = list(changes)
    places = [place for change in changes for place in changed_places(reach, change)]
    reached = [_reached(reach, place) for place in places]
    if places and not any(reach.all_of(place.found) for place in places):
        places = [_widened(place) for place in places]
        reached = [_reached(reach, place) for place in places]
    numbers = {name: number for number, name in enumerate(reach.names)}
    chosen = union(reach.all_of(place.found) for place in places)
    rank = _ranks(reach, places, chosen)
    new = _new(known, reach.names)
    listed = [one for one in known if numbers.get(one) in rank]
    words = shared_words(changes, listed)
    listed.sort(key=lambda one: _order(rank[numbers[one]], words[one.partition("[")[0]]))
    absent = sum(name not in numbers for name in known)
    about = [f"{absent} are not in the map"] if absent else []
    return ReachSelection((*listed, *new), len(listed) + absent, len(known), (*reached, *about))


def _new(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the scenarios that the map lacks.

    Those of which it has none, with any parameters, are named without parameters, which a kernel's
    own selftests have only where that kernel runs.
    """
    has = set(names)
    tests = {name.partition("[")[0] for name in has}
    absent = ((name, name.partition("[")[0]) for name in known if name not in has)
    return list(dict.fromkeys(name if test in tests else test for name, test in absent))


def changed_places(reach: ReachMap, change: FileChange) -> Iterator[ChangedPlace]:
    """Yield what a change of a file is about; nothing if no kernel is built from the file."""
    name = str(change.path)
    if not is_built(change.path):
        return
    if name in reach.headers:
        files = reach.headers[name]
        found = tuple(map(reach.of_file, files))
        yield ChangedPlace(
            name, found, reach.everything, f"run one of {len(files)} files that include it"
        )
    elif name in reach.files and change.before is not None and change.after is not None:
        yield from _in_file(reach, change, change.before, change.after)
    elif name in reach.files:
        yield ChangedPlace(name, (reach.of_file(name),), reach.everything, "run the file")
    else:
        yield _elsewhere(reach, change.path)


def _elsewhere(reach: ReachMap, path: PurePath) -> ChangedPlace:
    """Return the place of a file that the map does not have: the nearest folder that it has."""
    for folder in path.parents[:-1]:
        if found := reach.of_folder(folder):
            return ChangedPlace(
                str(path), (found,), reach.everything, f"run {folder}: the map lacks the file"
            )
    return ChangedPlace(
        str(path), (reach.everything,), reach.everything, "are all: the map lacks the file"
    )


def _in_file(
    reach: ReachMap, change: FileChange, before: str, after: str
) -> Iterator[ChangedPlace]:
    """Yield a place for each changed function, and one for changes outside of functions."""
    name = str(change.path)
    old = csource.functions(before)
    new = [one for one in csource.functions(after) if one.name not in {each.name for each in old}]
    hunks = [hunk for hunk in csource.hunks(change) if not hunk.trivial]
    inside: dict[CFunction, list[Hunk]] = {}
    outside = False
    for hunk in hunks:
        touched = [one for one in old if _touches(hunk, one)]
        for one in touched:
            inside.setdefault(one, []).append(hunk)
        outside |= not touched and not _is_harmless(hunk, new)
    whole = reach.of_file(name)
    if outside:
        functions = tuple(reach.files[name].values())
        yield ChangedPlace(
            name,
            (whole,),
            reach.everything,
            "run the file: it changes outside of functions",
            functions,
        )
    for one, found in inside.items():
        yield _in_function(reach, name, one, before.splitlines(), found)


def _touches(hunk: Hunk, function: CFunction) -> bool:
    """Return whether a hunk removes lines of a function, or adds lines inside it."""
    if not hunk.removed:
        return function.first < hunk.first <= function.last
    return hunk.first <= function.last and hunk.first + len(hunk.removed) > function.first


def _is_harmless(hunk: Hunk, new: Iterable[CFunction]) -> bool:
    """Return whether a hunk outside of functions only adds functions, or declares some."""
    inside = {number for one in new for number in range(one.first, one.last + 1)}
    added = [line for at, line in enumerate(hunk.added, hunk.start) if at not in inside]
    return all(csource.is_comment(one) or HARMLESS.match(one) for one in (*hunk.removed, *added))


def _in_function(
    reach: ReachMap, path: str, function: CFunction, lines: Sequence[str], hunks: Iterable[Hunk]
) -> ChangedPlace:
    known = reach.files[path].get(function.name)
    name, whole = f"{function.name}()", reach.of_file(path)
    if known is None:
        return ChangedPlace(
            name, (whole,), reach.everything, f"run {path}: the map lacks the function"
        )
    if known.digest != function.digest:
        why = f"run it; it reads otherwise in {reach.kernel}"
        return ChangedPlace(name, (known.scenarios,), whole, why, (known,))
    parts: list[Scenarios] = []
    for hunk in hunks:
        counted = _counted(hunk, function, known, lines)
        if counted is None:
            why = "run it; more than single statements change"
            return ChangedPlace(name, (known.scenarios,), whole, why, (known,))
        parts += [known.lines[at] for at in counted]
    return ChangedPlace(
        name, tuple(parts), known.scenarios or whole, "run the changed lines", (known,)
    )


def _counted(
    hunk: Hunk, function: CFunction, known: KnownFunction, lines: Sequence[str]
) -> Collection[int] | None:
    """Return the counted lines that a hunk replaces or stands between, None if that is unknown."""
    changed = (*hunk.removed, *hunk.added)
    if any(STRUCTURE.match(line) for line in changed):
        return None
    if _open_braces(hunk.removed) != _open_braces(hunk.added):
        return None
    if not hunk.removed:
        return _beside(hunk.first - function.first, known)
    found: set[int] = set()
    for number, line in enumerate(hunk.removed, hunk.first):
        if csource.is_comment(line) or not line.strip(" \t{}"):
            continue
        above = csource.leading(lines, number, function.first)
        places = (one - function.first for one in above)
        place = next((one for one in places if one in known.lines), None)
        if place is None:
            return None
        found.add(place)
    return found or _beside(hunk.first - function.first, known)


def _beside(at: int, known: KnownFunction) -> Collection[int] | None:
    """Return the counted lines before and after the place where lines are added."""
    before = [line for line in known.lines if line < at]
    after = [line for line in known.lines if line >= at]
    return {max(before), min(after)} if before and after else None


def _open_braces(lines: Iterable[str]) -> str:
    """Return the braces of lines that have no counterpart in them, such as `}{`."""
    found = ""
    for brace in BRACE.findall("\n".join(lines)):
        found = found[:-1] if brace == "}" and found.endswith("{") else found + brace
    return found


def _widened(place: ChangedPlace) -> ChangedPlace:
    words = f"run what is around it, since none {place.why.partition(';')[0]}"
    return ChangedPlace(place.name, (place.beyond,), place.beyond, words, place.functions)


def _reached(reach: ReachMap, place: ChangedPlace) -> str:
    own, every = reach.own(place.found), reach.all_of(place.found)
    late = every & ~own
    words = f"{place.name}: {own.bit_count()} {place.why}"
    return f"{words}, {late.bit_count()} by their template" if late else words


@dataclass(frozen=True)
class _Rank:
    """What a chosen scenario is sorted by.

    Args:
        late: whether its template alone ran a changed line.
        rarity: how many scenarios run the rarest changed line that it runs.
        focus: how much it runs of what few others run in the changed functions.
        effort: how many lines it runs in all.
    """

    late: bool
    rarity: int
    focus: float
    effort: int


def _order(rank: _Rank, shared: float) -> tuple[float, ...]:
    return (rank.late, rank.rarity, -shared, -rank.focus, rank.effort)


def _ranks(reach: ReachMap, places: Sequence[ChangedPlace], chosen: Scenarios) -> dict[int, _Rank]:
    """Return what the chosen scenarios are sorted by, by their numbers."""
    rarity = dict.fromkeys(members(chosen), len(reach.names))
    focus = dict.fromkeys(rarity, 0.0)
    own = 0
    for place in places:
        mine = reach.own(place.found)
        own |= mine
        for part in map(reach.own, place.parts):
            for one in members(part):
                rarity[one] = min(rarity[one], part.bit_count())
        for line in (line for function in place.functions for line in function.lines.values()):
            for one in members(running := reach.own(line) & mine):
                focus[one] += 1 / running.bit_count()
    return {
        one: _Rank(not own >> one & 1, rarity[one], focus[one], reach.effort[one]) for one in rarity
    }
