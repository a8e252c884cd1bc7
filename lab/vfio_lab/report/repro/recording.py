"""A scenario's evidence, read for a reproducer: who called what, when, and with what answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vfio_lab.campaign.results import Outcome, Record, read_results
from vfio_lab.errors import BuildError, UsageError

CALLS = "calls.jsonl"
SCHEMA = 1
FILE = "read_file"
READS = frozenset({"pread64", FILE, "peek"})
REGION_INFO = "VFIO_DEVICE_GET_REGION_INFO"
MONITOR_ANSWERS = frozenset({"qmp_capabilities", "cont", "migrate-incoming", "query-status"})
QUIET = frozenset({"migrate-set-capabilities", "query-migrate", "stop", "query-version"})


class CannotWrite(BuildError):
    """A record has something that a C program cannot do.

    Args:
        why: what that is.
    """

    def __init__(self, why: str) -> None:
        super().__init__("this scenario cannot be written as a C program", seen=why)


@dataclass(frozen=True)
class Call:
    """One call of a user.

    Args:
        number: its place among the steps, from 0.
        user: the user's name.
        pid: the user's process in the guest.
        name: an ioctl by its kernel name, another system call or the agent's operation by its own.
        syscall: the system call, empty for an operation of the agent.
        arguments: by their names.
        value: what it returned, None if it did not.
        errno: the errno's name, empty if it succeeded.
        answer: what it left in memory, by the names of the arguments or of the operation's answer.
        began: when it was asked for, seconds since the epoch.
        ended: when it was answered, None if it never was.
        failed_allocation: which of the kernel's allocations was made to fail in it, from 1; 0 if
            none was.
        polled: whether it was made over and over until it had that answer.
    """

    number: int
    user: str
    pid: int
    name: str
    syscall: str
    arguments: Mapping[str, Any]
    value: int | None
    errno: str
    answer: Mapping[str, Any]
    began: float
    ended: float | None
    failed_allocation: int = 0
    polled: bool = False


@dataclass(frozen=True)
class Recording:
    """All that is known of a scenario.

    Args:
        record: how it ended.
        kernel: release of the kernel that it ran on.
        calls: in the order they began.
        functions: the PCI functions at its end, as `snapshot.json` has them.
        log: the kernel's log.
    """

    record: Record
    kernel: str
    calls: tuple[Call, ...]
    functions: tuple[Mapping[str, str], ...]
    log: str


def read_recording(evidence: Path) -> Recording:
    """Read the evidence of a scenario.

    Args:
        evidence: its folder, in the folder of its run.

    Raises:
        UsageError: it is no evidence folder, or of another schema.
        CannotWrite: the scenario used the machine's monitor.
    """
    results = read_results(evidence.parent)
    found = [one for one in results.scenarios if one.evidence == evidence.name]
    path = evidence / CALLS
    if not found or not path.exists():
        raise UsageError(f"{evidence} has no {CALLS}", expected="the evidence of one scenario")
    head, *lines = path.read_text().splitlines()
    if json.loads(head).get("schema") != SCHEMA:
        raise UsageError(f"{path} is of another schema", expected=f"schema {SCHEMA}")
    if told := monitor_commands(evidence / "qmp.jsonl"):
        raise CannotWrite(f"it tells QEMU's monitor to {told[0]}")
    snapshot = evidence / "snapshot.json"
    functions = json.loads(snapshot.read_text())["functions"] if snapshot.exists() else ()
    log = evidence / "kernel.log"
    return Recording(
        found[0],
        str(results.kernel["release"]),
        tuple(_call(number, json.loads(line)) for number, line in enumerate(filter(None, lines))),
        tuple(functions),
        log.read_text(errors="replace") if log.exists() else "",
    )


def monitor_commands(path: Path) -> list[str]:
    """Return what a scenario told QEMU's monitor, besides what wakes a guest."""
    lines = path.read_text().splitlines() if path.exists() else []
    told = [str(one["execute"]) for one in map(json.loads, lines) if "execute" in one]
    return [name for name in told if name not in MONITOR_ANSWERS | QUIET]


def expected(recording: Recording) -> tuple[Call, ...]:
    """Return the calls as the scenario wanted them to end: the refusal that failed it succeeds."""
    calls, record = recording.calls, recording.record
    if record.outcome is not Outcome.FAILED:
        return calls
    refused = [call for call in calls if call.errno and f": {call.errno} (" in record.reason]
    if refused and not record.reason.partition("expected ")[2]:
        last = refused[-1]
        wanted = Call(**{**vars(last), "errno": "", "value": None, "answer": {}})
        return (*calls[: last.number], wanted)
    return calls


def condensed(calls: Iterable[Call]) -> Iterator[Call]:
    """Yield calls without what a program need not repeat.

    Of reads that wait for a value the last is left, also where two files are read in turn; what a
    region is like is asked once.
    """
    known: set[str] = set()
    held: list[Call] = []
    for call in calls:
        if call.name == "close":
            known.clear()
        if call.name == REGION_INFO and not call.errno:
            question = f"{call.pid} {call.arguments} {call.answer}"
            if question in known:
                continue
            known.add(question)
        files = bool(held) and {held[-1].name, call.name} == {FILE} and held[-1].pid == call.pid
        earlier = [one for one in held[0 if files else -1 :] if _same(one, call)]
        if earlier and call.name in READS:
            held = [*(one for one in held if one not in earlier), replace(call, polled=True)]
            continue
        if not files:
            yield from held
            held = []
        held.append(call)
    yield from held


def _same(one: Call, other: Call) -> bool:
    return (one.pid, one.name, one.arguments) == (other.pid, other.name, other.arguments)


def _call(number: int, line: Mapping[str, Any]) -> Call:
    return Call(
        number=number,
        user=line["user"],
        pid=line["pid"],
        name=line["call"],
        syscall=line["syscall"] or "",
        arguments=line["arguments"],
        value=line["value"],
        errno=line["errno"] or "",
        answer=line["answer"],
        began=line["began"],
        ended=line["ended"],
        failed_allocation=line.get("failed_allocation") or 0,
    )
