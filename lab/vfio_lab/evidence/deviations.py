"""What differs between the behaviour of two kernels in one scenario."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vfio_lab.evidence.config_fields import (
    ConfigField,
    config_fields,
    differing_fields,
    field_at,
)
from vfio_lab.evidence.observed import Observed, ObservedCall
from vfio_lab.evidence.rules import BDF, steady_count
from vfio_lab.util.cache import digest

Calls = tuple[ObservedCall, ...]
ABSENT, PRESENT, FEWER, MORE = "absent", "present", "fewer times", "more times"
ID_DIGITS = 8
GROUP = re.compile(
    r"(?<=/iommu_groups/)\d+|(?<=/dev/vfio/)\d+|(?<=/proc/)[a-z]\w*(?=/fdinfo|/status)"
)
NAMED_BY = ("path", "pathname")
CONFIG, CONFIG_FILE, CONFIG_HEADER_BYTES = "config", "/config", 64
HEX = re.compile(r"(?:[0-9a-f]{2}){64,}")
BDF_LENGTH = len("0000:01:00.0")
DEVICE_IO = frozenset({"pread64", "pwrite64"})


@dataclass(frozen=True, order=True)
class Deviation:
    """One difference, the same wherever it shows.

    Args:
        kind: `call`, `log`, `complaint`, `state` or `write`.
        subject: a call with its field, a line of the log, a file, a register.
        before: what the first kernel answered or did, in words.
        after: what the second one did.
    """

    kind: str
    subject: str
    before: str
    after: str

    @property
    def id(self) -> str:
        """A short name for it, which it has in every run."""
        return digest([self.kind, self.subject, self.before, self.after])[:ID_DIGITS]


def deviations(before: Observed, after: Observed) -> tuple[Deviation, ...]:
    """Return what differs between two records of one scenario, each difference once."""
    found = [
        *_calls(before.calls, after.calls),
        *_counts("log", before.log, after.log),
        *_counts("complaint", before.complaints, after.complaints),
        *_state(before.state, after.state),
    ]
    if before.writes is not None and after.writes is not None:
        found += _counts("write", *_named(before, after))
    return tuple(dict.fromkeys(found))


def _calls(before: Calls, after: Calls) -> Iterator[Deviation]:
    """Yield differing answers; without one, the first place where other calls are made."""
    answered = False
    for one, other in _pairs(before, after):
        if one is not None and other is not None:
            for each in _answers(one, other):
                answered = True
                yield each
        elif not answered:
            there = one or other
            assert there is not None
            words = (PRESENT, ABSENT) if one is not None else (ABSENT, PRESENT)
            yield Deviation("call", f"a call of {there.user}: {_subject(there)}", *words)
            return


def _pairs(
    before: Calls, after: Calls
) -> Iterator[tuple[ObservedCall | None, ObservedCall | None]]:
    """Yield calls side by side, None where one kernel's scenario made none."""
    mine, theirs = ([(one.user, one.call) for one in calls] for calls in (before, after))
    if mine == theirs:
        yield from zip(before, after, strict=True)
        return
    keys, other_keys = ([_key(one) for one in calls] for calls in (before, after))
    matcher = difflib.SequenceMatcher(a=keys, b=other_keys, autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "replace" and mine[i:j] == theirs[k:m]:
            tag = "equal"  # noqa: PLW2901 - the arguments differ, since an answer did
        if tag == "equal":
            yield from zip(before[i:j], after[k:m], strict=True)
        else:
            yield from _unequal(before[i:j], after[k:m])


def _unequal(
    before: Calls, after: Calls
) -> Iterator[tuple[ObservedCall | None, ObservedCall | None]]:
    """Yield two stretches of calls, side by side as far as the same calls begin them."""
    same = True
    for one, other in itertools.zip_longest(before, after):
        same = same and one is not None and other is not None and _who(one) == _who(other)
        if same:
            yield one, other
        else:
            yield from ((each, None) for each in (one,) if each is not None)
            yield from ((None, each) for each in (other,) if each is not None)


def _who(call: ObservedCall) -> tuple[str, str]:
    return call.user, call.call


def _key(call: ObservedCall) -> tuple[str, str, str]:
    return call.user, call.call, json.dumps(call.arguments, sort_keys=True)


def _answers(before: ObservedCall, after: ObservedCall) -> Iterator[Deviation]:
    """Yield what differs between the answers to one call."""
    subject = _subject(before)
    if before.result != after.result:
        yield Deviation("call", subject, before.result, after.result)
    one, other = dict(_flat("", before.answer)), dict(_flat("", after.answer))
    for name in dict.fromkeys([*one, *other]):
        was, now = one.get(name, ABSENT), other.get(name, ABSENT)
        if was != now:
            yield from _values(before, subject, re.sub(r"\[\d+\]", "[]", name), was, now)


def _values(call: ObservedCall, subject: str, name: str, was: Any, now: Any) -> Iterator[Deviation]:
    if isinstance(was, Bytes) and isinstance(now, Bytes):
        base, _, start = str(call.arguments.get("offset", "")).partition("+")
        origin = int(start, 16) if base and start and call.call in DEVICE_IO else 0
        where = f"{call.call} {base}" if base and start else f"{subject}{name}"
        if base == CONFIG and not origin and was.size == now.size > CONFIG_HEADER_BYTES:
            for field, old, new in differing_fields(was.content, now.content):
                yield Deviation("call", f"{where} {field}", old, new)
            return
        for at, old, new in was.ranges(now):
            yield Deviation("call", f"{where}+{origin + at:#x}", old, new)
    elif isinstance(was, str) and isinstance(now, str) and "\n" in was.strip() + now.strip():
        yield Deviation("call", f"{subject}{name}", *_lines(was, now))
    else:
        yield Deviation("call", f"{subject}{name}", str(was), str(now))


def _subject(call: ObservedCall) -> str:
    path = next((str(call.arguments[name]) for name in NAMED_BY if name in call.arguments), "")
    if call.call in DEVICE_IO:
        path = re.sub(r"#\d+", "", str(call.arguments.get("offset", "")))
    return f"{call.call} {_anywhere(path)}" if path else call.call


def _anywhere(text: str) -> str:
    """Return text without what tells one function or group from another."""
    return GROUP.sub("*", BDF.sub("BDF", text))


@dataclass(frozen=True)
class Bytes:
    """Memory that has no fields.

    Args:
        size: how much.
        hex: its content, without the zeros at its end.
    """

    size: int
    hex: str

    def __str__(self) -> str:
        """Return it as far as it is not zero."""
        return f"{self.hex or '00'} ({self.size} bytes)"

    @property
    def content(self) -> bytes:
        """All of it."""
        return bytes.fromhex(self.hex).ljust(self.size, b"\0")

    def ranges(self, other: Bytes) -> Iterator[tuple[int, str, str]]:
        """Yield where others differ: from which byte on, these bytes, and those."""
        if self.size != other.size:
            yield 0, str(self), str(other)
            return
        old, new = self.content, other.content
        differing = [at for at, (one, two) in enumerate(zip(old, new, strict=True)) if one != two]
        for _, run in itertools.groupby(enumerate(differing), lambda pair: pair[1] - pair[0]):
            places = [at for _, at in run]
            part = slice(places[0], places[-1] + 1)
            yield places[0], old[part].hex(), new[part].hex()


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an answer by their names: `.flags`, `.devices[0].bus`."""
    match value:
        case {"size": int(size), "bytes": str(text)}:
            yield name, Bytes(size, text)
        case {"struct": _, "fields": fields, **rest}:
            yield from _flat(name.removesuffix(".arg"), fields)
            if "rest" in rest:
                yield from _flat(f"{name}.rest", rest["rest"])
        case {"to": there}:
            yield from _flat(name, there)
        case Mapping():
            for key, one in value.items():
                yield from _flat(f"{name}.{key}", one)
        case list() if all(isinstance(one, str) for one in value):
            yield name, "\n".join(value)
        case list():
            yield f"{name}.length", len(value)
            for place, one in enumerate(value):
                yield from _flat(f"{name}[{place}]", one)
        case _:
            yield name, value


def _lines(before: str, after: str) -> tuple[str, str]:
    """Return the lines that only the first text has, and those that only the second has."""
    old, new = Counter(before.splitlines()), Counter(after.splitlines())
    gone, come = ("; ".join((one - other).elements()) for one, other in ((old, new), (new, old)))
    return (gone or ABSENT, come or ABSENT) if gone or come else ("in one order", "in another")


def _counts(kind: str, before: Iterable[str], after: Iterable[str]) -> Iterator[Deviation]:
    old, new = (Counter(_anywhere(line) for line in lines) for lines in (before, after))
    for line in dict.fromkeys([*old, *new]):
        if steady_count(line, old[line]) != steady_count(line, new[line]):
            was, now = (FEWER, MORE) if old[line] < new[line] else (MORE, FEWER)
            was, now = was if old[line] else ABSENT, now if new[line] else ABSENT
            words = [
                PRESENT if ABSENT in (was, now) and one != ABSENT else one for one in (was, now)
            ]
            yield Deviation(kind, line, *words)


def _named(before: Observed, after: Observed) -> Iterator[list[str]]:
    """Yield the writes of both records, with registers by their names where they are known."""
    spaces = {
        path.removesuffix(CONFIG_FILE)[-BDF_LENGTH:]: config_fields(bytes.fromhex(text))
        for state in (after.state or {}, before.state or {})
        for path, text in state.items()
        if path.endswith(CONFIG_FILE) and HEX.fullmatch(text)
    }
    for record in (before, after):
        yield [_named_write(line, spaces) for line in record.writes or ()]


def _named_write(line: str, spaces: Mapping[str, list[ConfigField]]) -> str:
    bdf, at, rest = line.split(" ", 2)
    fields = spaces.get(bdf)
    return f"{bdf} {field_at(fields, int(at, 16)).name} {rest}" if fields else line


def _state(
    before: Mapping[str, str] | None, after: Mapping[str, str] | None
) -> Iterator[Deviation]:
    if before is None or after is None:
        return
    for path in sorted({*before, *after}):
        was, now = before.get(path, ABSENT), after.get(path, ABSENT)
        if path.endswith(CONFIG_FILE) and HEX.fullmatch(was) and HEX.fullmatch(now):
            for field, old, new in differing_fields(bytes.fromhex(was), bytes.fromhex(now)):
                yield Deviation("state", f"{_anywhere(path)} {field}", old, new)
        elif was != now:
            whole = ABSENT in (was, now) or "\n" not in was + now
            yield Deviation("state", _anywhere(path), *((was, now) if whole else _lines(was, now)))
