"""What a scenario leaves behind, in a folder of its own.

| file | content |
| --- | --- |
| `command.sh` | boots the same machine at a terminal |
| `console.log` | the serial console since the guest woke |
| `kernel.log` | the kernel log since then, with levels |
| `transcript.log` | every system call of every user, with its result |
| `calls.jsonl` | the same for programs, structs by their fields; see docs/results.md |
| `timeline.json` | all three on one clock, for programs: `vfio_lab.evidence.timeline` |
| `observed.json` | the behaviour, without what varies, to be compared: docs/behaviour.md |
| `config-writes.log` | what the guest wrote to configuration space, as QEMU saw it |
| `stacks.txt` | of users whose calls have not returned: state, kernel stack, open files |
| `snapshot.json` | at the end: PCI functions, drivers, groups, holders: `vfio_lab.machine.state` |
| `qmp.jsonl` | every monitor message, if the monitor was used |
| `failure.txt` | how it failed, as pytest tells it |
| `qemu.log` | what QEMU itself printed |
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vfio_lab.client.transcript import Entry
from vfio_lab.errors import LabError
from vfio_lab.evidence.calls import call_records, transcript
from vfio_lab.evidence.observed import OBSERVED, observe
from vfio_lab.evidence.stacks import kernel_stacks
from vfio_lab.evidence.timeline import timeline
from vfio_lab.machine.base import TestMachine
from vfio_lab.machine.questions import ask_about
from vfio_lab.machine.state import Snapshot
from vfio_lab.qemu import console
from vfio_lab.qemu.argv import CONFIG_WRITES_LOG
from vfio_lab.qemu.console import Complaint, readable
from vfio_lab.util.cache import digest
from vfio_lab.util.files import full, write_whole

_SEPARATORS = re.compile(r"/|::|[][]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")
LONGEST_NAME = 120
FAILURE = "failure.txt"
STACKS = "stacks.txt"
MARK_DIGITS = 8
PART_LINES = 25


def folder_name(scenario: str) -> str:
    """Return a scenario's ID as a folder name, which no other scenario has."""
    plain = _SEPARATORS.sub("-", scenario.removesuffix("]"))
    name = _UNSAFE.sub("-", plain)[-LONGEST_NAME:].lstrip("-")
    return name if name == plain else f"{name}-{digest(scenario)[:MARK_DIGITS]}".lstrip("-")


@dataclass(frozen=True)
class Collected:
    """What was collected from a guest at the end of its scenario.

    Args:
        complaints: the complaints of its kernel.
        missing: why some of the evidence could not be written, empty if all was.
    """

    complaints: list[Complaint]
    missing: str = ""


@dataclass(frozen=True)
class EndState:
    """The state of a machine at the end of its scenario.

    Args:
        records: the kernel log, in /dev/kmsg form.
        snapshot: the drivers of devices and the open descriptors of users.
        stacks: the kernel stacks of users whose calls have not returned.
        survey: what the kernel shows of itself, by path.
        asked: the calls by which the lab asked about files that are open.
    """

    records: Sequence[str] = ()
    snapshot: Snapshot | None = None
    stacks: str = ""
    survey: Mapping[str, str] = field(default_factory=dict)
    asked: Sequence[Entry] = ()


def collect_evidence(guest: TestMachine) -> Collected:
    """Write all evidence of a guest that is about to be thrown away; return a summary.

    A full disk does not end the scenario: evidence is not the verdict.
    """
    for entry in guest.transcript:
        entry.look()
    seen = _ask(guest)
    log = "\n".join(map(readable, seen.records))
    text = console.read_console(guest.console)
    found = console.complaints(text) or console.complaints(log)
    missing = ""
    try:
        _write(guest, seen, log, found)
    except OSError as error:
        if not full(error):
            raise
        missing = os.strerror(error.errno or 0)
    return Collected(found, missing)


def _write(guest: TestMachine, seen: EndState, log: str, found: Sequence[Complaint]) -> None:
    folder = guest.folder
    writes = folder / CONFIG_WRITES_LOG
    observed = observe([*guest.transcript, *seen.asked], seen.records, found, seen.survey, writes)
    write_whole(folder / OBSERVED, observed.to_json() + "\n")
    write_whole(folder / "command.sh", f"#!/bin/sh\nexec {guest.paste()}\n")
    awake_at = guest.awake.at if guest.awake else None
    write_whole(folder / "transcript.log", transcript(guest.transcript))
    calls = call_records(guest.transcript, awake_at)
    write_whole(folder / "calls.jsonl", "\n".join(calls) + "\n")
    write_whole(folder / "kernel.log", log + "\n" if log else "")
    if seen.snapshot is not None:
        write_whole(folder / "snapshot.json", json.dumps(asdict(seen.snapshot)))
    if seen.stacks:
        write_whole(folder / STACKS, seen.stacks)
    moments = timeline(guest.awake, guest.transcript, seen.records, folder / "qmp.jsonl")
    write_whole(folder / "timeline.json", json.dumps([asdict(one) for one in moments]))
    for path in folder.iterdir():
        path.chmod(0o600)


def _ask(guest: TestMachine) -> EndState:
    """Ask the machine for its state, as far as it still answers."""
    try:
        records = guest.kernel_log()
    except LabError:  # a lost guest leaves only its console
        return EndState()
    snapshot, sleeping = None, ""
    with contextlib.suppress(LabError):  # a function that is being removed cannot be read
        snapshot = guest.snapshot()
    with contextlib.suppress(LabError):
        sleeping = kernel_stacks(guest, snapshot.held if snapshot else ())
    surveyed: Mapping[str, str] = {}
    if snapshot is not None and all(entry.ended is not None for entry in guest.transcript):
        with contextlib.suppress(LabError):  # a kernel that hangs is looked at by its stacks
            surveyed = guest.survey(snapshot)
    asked: Sequence[Entry] = ()
    if snapshot is not None and surveyed:
        with contextlib.suppress(LabError):
            asked = ask_about(snapshot.held, guest.users)
    return EndState(records, snapshot, sleeping, surveyed, asked)


def part_that_matters(folder: Path, complaints: Iterable[Complaint] = ()) -> str:
    """Return the evidence to show first: complaints, hung calls, the last lines of each log."""
    parts = [f"kernel complaint ({each.kind}):\n{each.report}" for each in complaints]
    if (folder / STACKS).exists():
        parts.append(f"calls that have not returned ({STACKS}):\n{(folder / STACKS).read_text()}")
    for name in ("transcript.log", "kernel.log"):
        text = console.tail(folder / name, PART_LINES)
        if text:
            parts.append(f"{name}, its end:\n{text}")
    if len(parts) == 0:
        parts.append(f"console.log, its end:\n{console.tail(folder / 'console.log') or '<empty>'}")
    parts.append(f"evidence: {folder}")
    return "\n\n".join(parts)
