"""The calls of users, the kernel's log and QEMU's messages on one clock."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vfio_lab.client.transcript import Entry
from vfio_lab.evidence.calls import arguments, result
from vfio_lab.qemu.console import parse_record

KERNEL = "kernel"
QEMU = "qemu"


class Woken(Protocol):
    """The moment of waking on two clocks."""

    @property
    def at(self) -> float:
        """The moment on the host's clock, in seconds since the epoch."""

    @property
    def log_us(self) -> int:
        """The moment on the clock of the guest's kernel log, in microseconds."""


@dataclass(frozen=True)
class Moment:
    """One event.

    Args:
        at: seconds since the guest woke.
        took: its duration in seconds, until now if it has not ended; 0 for a message.
        who: the name of a user, `kernel` or `qemu`.
        what: the call, the log line or the monitor's message.
        result: the result of a call, an errno by its name; the level of a log line.
    """

    at: float
    took: float
    who: str
    what: str
    result: str


def timeline(
    awake: Woken | None, entries: Iterable[Entry], records: Iterable[str], qmp_log: Path
) -> list[Moment]:
    """Return all events in the order in which they happened.

    Args:
        awake: when the guest woke; without it there is no common clock and no event.
        entries: the users' calls.
        records: the kernel log, in /dev/kmsg form.
        qmp_log: the file with the monitor's messages, one a line; it need not exist.
    """
    if awake is None:
        return []
    found = [*_calls(awake, entries), *_log(awake, records), *_monitor(awake, qmp_log)]
    return sorted(found, key=lambda moment: moment.at)


def _calls(awake: Woken, entries: Iterable[Entry]) -> Iterator[Moment]:
    for entry in entries:
        what = f"{entry.call}({arguments(entry)})"
        took = round((entry.ended or time.time()) - entry.began, 6)
        yield Moment(round(entry.began - awake.at, 6), took, entry.user, what, result(entry))


def _log(awake: Woken, records: Iterable[str]) -> Iterator[Moment]:
    for record in map(parse_record, records):
        at = (record.us - awake.log_us) / 1e6
        yield Moment(at, 0.0, KERNEL, record.text, record.level)


def _monitor(awake: Woken, path: Path) -> Iterator[Moment]:
    """Yield commands with their answers, and events, after the guest woke."""
    command: dict[str, Any] = {}
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            message = json.loads(line)  # the last one may be cut short
            if "execute" in message:
                command = message
            else:
                yield from _told(awake, message, command)


def _told(awake: Woken, message: dict[str, Any], command: dict[str, Any]) -> Iterator[Moment]:
    at = round(message["at"] - awake.at, 6)
    if "event" in message:
        stamp = message["timestamp"]  # its own time: an event may be read long after it happened
        at = round(stamp["seconds"] + stamp["microseconds"] / 1e6 - awake.at, 6)
        what = " ".join(filter(None, [message["event"], _plain(message.get("data"))]))
        yield Moment(at, 0.0, QEMU, what, "")
    elif at > 0 and command:
        began = round(command["at"] - awake.at, 6)
        what = f"{command['execute']} {_plain(command['arguments'])}".rstrip()
        result = message.get("error") or _plain(message.get("return"))
        yield Moment(began, round(at - began, 6), QEMU, what, result)


def _plain(data: object) -> str:
    return json.dumps(data) if data else ""
