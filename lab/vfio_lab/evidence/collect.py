"""What a scenario leaves behind, in a folder of its own.

| file | content |
| --- | --- |
| `command.sh` | boots the same machine at a terminal |
| `console.log` | the serial console since the guest woke |
| `kernel.log` | the kernel log since then, with levels |
| `transcript.log` | every system call of every user, with its result |
| `calls.jsonl` | the same for programs, structs by their fields: docs/results.md |
| `timeline.json` | all three on one clock, for programs: `vfio_lab.evidence.timeline` |
| `snapshot.json` | at the end: PCI functions, drivers, groups, holders: `vfio_lab.machine.state` |
| `qmp.jsonl` | every monitor message, if the monitor was used |
| `failure.txt` | how it failed, as pytest tells it |
| `qemu.log` | what QEMU itself printed |
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from vfio_lab.errors import LabError
from vfio_lab.evidence.calls import call_records, transcript
from vfio_lab.evidence.timeline import timeline
from vfio_lab.machine.test_machine import TestMachine
from vfio_lab.qemu import console
from vfio_lab.qemu.console import Complaint, readable
from vfio_lab.util.cache import digest

_SEPARATORS = re.compile(r"/|::|[][]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")
LONGEST_NAME = 120
FAILURE = "failure.txt"
MARK_DIGITS = 8
PART_LINES = 25


def folder_name(scenario: str) -> str:
    """Return a scenario's ID as a folder name, which no other scenario has."""
    plain = _SEPARATORS.sub("-", scenario.removesuffix("]"))
    name = _UNSAFE.sub("-", plain)[-LONGEST_NAME:].lstrip("-")
    return name if name == plain else f"{name}-{digest(scenario)[:MARK_DIGITS]}".lstrip("-")


def collect_evidence(guest: TestMachine) -> list[Complaint]:
    """Write all evidence of a guest that is about to be thrown away; return its complaints."""
    folder = guest.folder
    (folder / "command.sh").write_text(f"#!/bin/sh\nexec {guest.paste()}\n")
    awake_at = guest.awake.at if guest.awake else None
    (folder / "transcript.log").write_text(transcript(guest.transcript))
    (folder / "calls.jsonl").write_text("\n".join(call_records(guest.transcript, awake_at)) + "\n")
    log_records: list[str] = []
    with contextlib.suppress(LabError):  # a lost guest has its console, which has what there is
        log_records = guest.kernel_log()
        (folder / "snapshot.json").write_text(json.dumps(asdict(guest.snapshot())))
    log = "\n".join(map(readable, log_records))
    (folder / "kernel.log").write_text(log + "\n" if log else "")
    moments = timeline(guest.awake, guest.transcript, log_records, folder / "qmp.jsonl")
    (folder / "timeline.json").write_text(json.dumps([asdict(one) for one in moments]))
    for path in folder.iterdir():
        path.chmod(0o600)
    return console.complaints(console.read_console(guest.console)) or console.complaints(log)


def part_that_matters(folder: Path, complaints: Iterable[Complaint] = ()) -> str:
    """Return what a reader of a failure wants first: complaints, last calls, last kernel lines."""
    parts = [f"kernel complaint ({each.kind}):\n{each.report}" for each in complaints]
    for name in ("transcript.log", "kernel.log"):
        text = console.tail(folder / name, PART_LINES)
        if text:
            parts.append(f"{name}, its end:\n{text}")
    if len(parts) == 0:
        parts.append(f"console.log, its end:\n{console.tail(folder / 'console.log') or '<empty>'}")
    parts.append(f"evidence: {folder}")
    return "\n\n".join(parts)
