"""What happened in a scenario, as the report shows it: lanes, events, and the machine at each."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vfio_lab.evidence.timeline import KERNEL, QEMU
from vfio_lab.hw.topology import Topology
from vfio_lab.machine.state import read_state
from vfio_lab.report.fields import FieldRow, field_rows
from vfio_lab.report.picture import Change, Picture, picture
from vfio_lab.report.state import descriptor_changes
from vfio_lab.report.tolerant import json_in, json_lines, printable

MOST_EVENTS = 300
LONGEST_WHAT = 600
LONGEST_NAME = 80
LONGEST_PATH = 120
CALLS = "calls.jsonl"
TIMELINE = "timeline.json"


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Args:
        lane: the number of its lane, -1 of those that are left out.
        number: its place in its lane, from 1.
        at: seconds since the guest woke.
        took: seconds until it was over, 0 for what has no duration.
        what: the call, the log line, the monitor's message.
        result: of a call, an errno by its name; of a log line its level.
        fields: the call's arguments and answers.
        changes: what the machine is like after it and was not before.
    """

    lane: int
    number: int
    at: float
    took: float
    what: str
    result: str
    fields: Sequence[FieldRow] = ()
    changes: Sequence[Change] = ()

    def as_row(self) -> list[Any]:
        """Return it as the page loads it, what is empty at its end left out."""
        row = [self.lane, self.number, self.at, self.took, self.what, self.result]
        row += [self.fields, self.changes]
        while row and not row[-1]:
            row.pop()
        return row


@dataclass(frozen=True)
class Story:
    """All that happened in a scenario.

    Args:
        lanes: users by name, then `kernel` and `qemu`, as far as something happened there.
        events: in the order they happened.
        picture: the machine; None if the topology is not known.
    """

    lanes: Sequence[str] = ()
    events: Sequence[Event] = ()
    picture: Picture | None = None


@dataclass
class _Lanes:
    """Numbers of lanes; a process has one of its own, also if its name is another's."""

    names: list[str] = field(default_factory=list)
    numbers: dict[tuple[str, object], int] = field(default_factory=dict)
    by_pid: dict[object, int] = field(default_factory=dict)
    children: dict[object, str] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)

    def number(self, who: str, pid: object = None) -> int:
        """Return the number of a lane; the first call for one makes it."""
        if (who, pid) not in self.numbers:
            self.times[who] += 1
            self.numbers[who, pid] = len(self.names)
            count = self.times[who]
            self.names.append(printable(who)[:LONGEST_NAME] + (f" {count}" if count > 1 else ""))
            self.by_pid.setdefault(pid, self.numbers[who, pid])
        return self.numbers[who, pid]

    def of_process(self, pid: object) -> int:
        """Return the lane of a process, which may have made no call."""
        return self.by_pid[pid] if pid in self.by_pid else self.number(f"process {pid}", pid)


def story(evidence: Path, topology: Topology | None) -> Story:
    """Return what happened, from an evidence folder's files.

    In a long one the middle is replaced by a reference to the evidence.

    Args:
        evidence: the folder.
        topology: the guest's hardware, None if it is not known.
    """
    head, *calls = list(json_lines(evidence / CALLS)) or [{}]
    calls = [call for call in calls if isinstance(call.get("user"), str)]
    seen = read_state(evidence / "snapshot.json")
    drawn = picture(topology, seen, calls) if topology is not None else None
    lanes = _Lanes()
    moments = _moments(evidence / TIMELINE)
    matched = _matched(moments, calls, head.get("awake"))
    own = [one for one in moments if one["who"] not in (KERNEL, QEMU)]
    for moment in own:
        call = calls[matched[id(moment)]] if id(moment) in matched else {}
        lanes.number(moment["who"], call.get("pid"))
        if call.get("call") == "fork" and isinstance(call.get("value"), int):
            lanes.number(f"{moment['who']}'s child", call["value"])
    changes = _changes(calls, drawn, lanes)
    events = [_event(moment, matched, calls, changes, lanes) for moment in moments]
    return Story(lanes.names, _numbered(events), drawn)


def _moments(path: Path) -> list[dict[str, Any]]:
    """Return the moments of a timeline; one that says why, if it cannot be read."""
    found = json_in(path)
    if not isinstance(found, list):
        if not path.exists():
            return []
        size = path.stat().st_size
        what = f"{path.name} cannot be shown: it is malformed or too large ({size} bytes)"
        return [{"at": 0.0, "took": 0.0, "who": "report", "what": what, "result": ""}]
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("who"), str)]


def _matched(
    moments: Iterable[Mapping[str, Any]], calls: Sequence[Mapping[str, Any]], awake: object
) -> dict[int, int]:
    """Return the place of each moment's call, by the moment's identity."""
    if not isinstance(awake, int | float):
        return {}
    waiting: defaultdict[tuple[str, float], deque[int]] = defaultdict(deque)
    for index, call in enumerate(calls):
        if isinstance(call.get("began"), int | float):
            waiting[call["user"], round(call["began"] - awake, 6)].append(index)
    found = {}
    for moment in moments:
        if queue := waiting.get((moment["who"], moment.get("at", 0.0))):
            found[id(moment)] = queue.popleft()
    return found


def _changes(
    calls: Sequence[Mapping[str, Any]], drawn: Picture | None, lanes: _Lanes
) -> dict[int, list[Change]]:
    """Return the changes of the machine by the place of the call, users by their lanes."""
    changes: defaultdict[int, list[Change]] = defaultdict(list)
    for at, found in descriptor_changes(calls):
        for kind, pid, *rest in found:
            lane = lanes.of_process(pid)
            changes[at].append((kind, lane, *(_open_file(drawn, *rest) if rest[1:] else rest)))
    for at, more in (drawn.changes if drawn else {}).items():
        changes[at] += more
    return changes


def _open_file(drawn: Picture | None, fd: int, what: str, note: str) -> Change:
    """Return a descriptor, what it is, and the functions that it refers to."""
    where = drawn.rows_of(what) if drawn else []
    return fd, printable(what)[:LONGEST_PATH], note, where


def _event(
    moment: Mapping[str, Any],
    matched: Mapping[int, int],
    calls: Sequence[Mapping[str, Any]],
    changes: Mapping[int, list[Change]],
    lanes: _Lanes,
) -> Event:
    index = matched.get(id(moment))
    call = calls[index] if index is not None else {}
    return Event(
        lanes.number(moment["who"], call.get("pid")),
        0,
        _seconds(moment.get("at")),
        _seconds(moment.get("took")),
        printable(moment.get("what", ""))[:LONGEST_WHAT],
        printable(moment.get("result", ""))[:LONGEST_WHAT],
        field_rows(call),
        changes.get(index, ()) if index is not None else (),
    )


def _seconds(value: object) -> float:
    return round(float(value), 3) if isinstance(value, int | float) else 0.0


def _numbered(events: Sequence[Event]) -> list[Event]:
    """Return events with their numbers; of many only the first and the last ones."""
    counted: Counter[int] = Counter()
    numbered = []
    for event in events:
        counted[event.lane] += 1
        numbered.append(replace(event, number=counted[event.lane]))
    if len(numbered) <= MOST_EVENTS:
        return numbered
    half = MOST_EVENTS // 2
    first, middle, last = numbered[:half], numbered[half:-half], numbered[-half:]
    what = f"{len(middle)} more are in {TIMELINE} of the evidence"
    gap = Event(-1, 0, last[0].at, 0.0, what, "", (), _last_changes(middle))
    return [*first, gap, *last]


def _last_changes(events: Iterable[Event]) -> list[Change]:
    """Return the changes of some events that no later one of them undoes."""
    kept: dict[tuple[Any, ...], Change] = {}
    for event in events:
        for change in event.changes:
            kind, *key = change
            what = "fd" if kind in ("open", "close") else kind
            place = (what, *key[: 2 if what == "fd" else 1])
            kept.pop(place, None)
            kept[place] = change
    return list(kept.values())
