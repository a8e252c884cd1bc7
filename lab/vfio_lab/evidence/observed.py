"""Behaviour of one scenario: what the kernel answered, logged and showed, without what varies.

docs/behaviour.md describes the file, `observed.json`. Two equal kernels leave equal records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vfio_lab.client.transcript import Entry
from vfio_lab.evidence import rules
from vfio_lab.evidence.calls import call_record
from vfio_lab.evidence.names import Names
from vfio_lab.qemu.console import Complaint, parse_record

SCHEMA = 1  # raise it when a field changes its meaning or goes; new fields do no harm
OBSERVED = "observed.json"
CONFIG_WRITE = re.compile(
    r"pci_cfg_write (?P<device>\S+) (?P<bdf>[0-9a-f:.]+) @(?P<at>0x[0-9a-f]+) <- (?P<value>\S+)"
)


@dataclass(frozen=True)
class ObservedCall:
    """A call of a user.

    Args:
        user: who called.
        call: as in `calls.jsonl`.
        arguments: by name.
        result: the value in words, or the errno's name.
        answer: what the call left in memory, by the argument's name.
    """

    user: str
    call: str
    arguments: Mapping[str, Any]
    result: str
    answer: Mapping[str, Any]


@dataclass(frozen=True)
class Observed:
    """What one scenario saw of a kernel, and what the lab saw beside it.

    Args:
        calls: in the order they began; of a wait only the last look.
        log: the kernel log with its levels.
        complaints: their headlines.
        state: at the end, by path; empty if it could not be read.
        writes: to the configuration space of functions under test, None where QEMU cannot tell.
    """

    calls: tuple[ObservedCall, ...] = ()
    log: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    state: Mapping[str, str] | None = None
    writes: tuple[str, ...] | None = None

    def to_json(self) -> str:
        """Return the record as a line of JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Observed | None:
        """Return the record in a line of JSON as the rules of today have it.

        Returns None if it is of another schema.
        """
        data = json.loads(text)
        if data.pop("schema", None) != SCHEMA:
            return None
        writes = data.pop("writes")
        log = (rules.log_line(line) for line in data["log"])
        return cls(
            calls=tuple(_steady(ObservedCall(**one) for one in data.pop("calls"))),
            log=tuple(line for line in log if line is not None),
            complaints=tuple(rules.plain_text(line) for line in data["complaints"]),
            state=None if data["state"] is None else dict(_state(data["state"])),
            writes=None if writes is None else tuple(writes),
        )


def observe(
    entries: Iterable[Entry],
    records: Iterable[str],
    complaints: Iterable[Complaint],
    survey: Mapping[str, str],
    config_writes: Path,
) -> Observed:
    """Return the behaviour that a scenario's evidence shows.

    Args:
        entries: the calls, in the order they began.
        records: the kernel log, in /dev/kmsg form.
        complaints: of the kernel.
        survey: files by path, as they were at the end.
        config_writes: QEMU's log of them, which need not exist.
    """
    lines = (parse_record(record) for record in records)
    log = (rules.log_line(f"{line.level}: {line.text}") for line in lines)
    return Observed(
        calls=tuple(_steady(_calls(entries))),
        log=tuple(line for line in log if line is not None),
        complaints=tuple(rules.plain_text(one.headline) for one in complaints),
        state=dict(_state(survey)) if survey else None,
        writes=_writes(config_writes),
    )


def read_observed(folder: Path) -> Observed | None:
    """Return the behaviour in an evidence folder, None if there is none that this lab reads."""
    try:
        return Observed.from_json((folder / OBSERVED).read_text())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _calls(entries: Iterable[Entry]) -> Iterator[ObservedCall]:
    names = Names()
    for entry in _last_looks(list(entries)):
        record = call_record(entry)
        arguments = names.arguments(record)
        dropped = rules.WAITING_ARGUMENTS | rules.REDUNDANT_ARGUMENTS
        kept = {name: value for name, value in arguments.items() if name not in dropped}
        answer = names.answer(record)
        told = {name: one for name, one in answer.items() if name not in rules.PROGRAM_OUTPUT}
        yield ObservedCall(entry.user, entry.call, kept, names.result(record), told)


def _steady(calls: Iterable[ObservedCall]) -> Iterator[ObservedCall]:
    """Yield calls without those that only wait, and without what answers say by chance."""
    for call in calls:
        path = str(call.arguments.get("path", ""))
        if not rules.WHERE_TASKS_SLEEP.fullmatch(path):
            region, _, at = str(call.arguments.get("offset", "")).partition("+")
            answer = {
                name: _steady_value(value, path, region, at) for name, value in call.answer.items()
            }
            result = "user" if call.call == "become" else call.result  # else the number it has
            yield replace(call, answer=answer, result=result)


def _steady_value(value: Any, path: str, region: str, at: str) -> Any:
    match value:
        case str() if path:
            return rules.state_text(path, value) or ""
        case {"size": size, "bytes": str(raw)} if at:
            return {"size": size, "bytes": rules.steady_bytes(region, int(at, 16), raw)}
    return value


def _last_looks(entries: list[Entry]) -> Iterator[Entry]:
    """Yield the calls without those of a wait that looked again later."""
    last: dict[int, int] = {}
    for entry in entries:
        if entry.attempt is not None:
            last[entry.attempt[0]] = entry.attempt[1]
    for entry in entries:
        if entry.attempt is None or last[entry.attempt[0]] == entry.attempt[1]:
            yield entry


def _state(survey: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path, text in sorted(survey.items()):
        kept = rules.state_text(path, text)
        if kept is not None:
            yield path, kept


def _writes(path: Path) -> tuple[str, ...] | None:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    found = (CONFIG_WRITE.search(line) for line in text.splitlines())
    return tuple(
        f"0000:{one['bdf']} {one['at']} <- {one['value']}"
        for one in found
        if one is not None and not rules.NOT_UNDER_TEST.match(one["device"])
    )
