"""What a guest's console says: its tail, its panics, and complaints no scenario may cause."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lab.errors import TAIL_LINES

TAIL_BYTES = 1 << 16
REPORT_LINES = 30
LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")

# How reports begin in kernel/panic.c (WARNING), lib/bug.c and mm (BUG), arch/x86/kernel/dumpstack.c
# (Oops), kernel/locking/lockdep.c, mm/kasan, lib/ubsan.c, kernel/rcu/tree_stall.h,
# kernel/hung_task.c, kernel/watchdog.c and mm/kmemleak.c.
_COMPLAINTS = {
    "panic": r"Kernel panic - not syncing",
    "KASAN": r"BUG: KASAN:",
    "UBSAN": r"UBSAN: ",
    "kmemleak": r"kmemleak: \d+ new suspected memory leaks",
    "lockdep": r"WARNING: (?:possible|bad|inconsistent|suspicious|held|lock|Nested|\w+IRQ|chain)"
    r"|INFO: trying to register non-static key|BUG: Invalid wait context|WARNING: suspicious RCU",
    "WARN": r"WARNING: (?:CPU: \d|.* at .*[:+])",
    "hung task": r"INFO: task .* blocked for more than",
    "RCU stall": r"rcu: INFO: .* (?:detected|self-detected)",
    "lockup": r"watchdog: BUG: (?:soft|hard) lockup",
    "Oops": r"Oops: |general protection fault|BUG: unable to handle|BUG: kernel NULL",
    "refcount": r"refcount_t: ",
    "BUG": r"\bBUG: |kernel BUG at ",
    "list": r"list_(?:add|del) corruption",
}
_PATTERN = re.compile(
    "|".join(f"(?P<k{index}>{text})" for index, text in enumerate(_COMPLAINTS.values()))
)
_KINDS = tuple(_COMPLAINTS)
_STAMP = re.compile(r"^\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f]")


@dataclass(frozen=True)
class Complaint:
    """A report by the kernel that something in it is wrong.

    Args:
        kind: `WARN`, `lockdep`, `KASAN`, ...
        headline: the line that begins it, without its time stamp.
        report: that line and those after it, as many as a reader needs.
    """

    kind: str
    headline: str
    report: str


def read(path: Path) -> str:
    """Return a console's text without control sequences; empty when there is none."""
    try:
        return _CONTROL.sub("", path.read_text(errors="replace"))
    except FileNotFoundError:
        return ""


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return a console's last lines, empty when there are none."""
    return "\n".join(read(path)[-TAIL_BYTES:].splitlines()[-lines:])


def complaints(text: str) -> list[Complaint]:
    """Return the kernel's complaints in a console or kernel log, in order.

    Lines that continue a report are not counted again: a WARN's own `---[ end trace` and what
    lies between belong to it.
    """
    lines = text.splitlines()
    found: list[Complaint] = []
    skip_until = 0
    for index, line in enumerate(lines):
        match = _PATTERN.search(line)
        if match is None or index < skip_until:
            continue
        kind = _KINDS[int((match.lastgroup or "k0")[1:])]
        report = lines[index : index + REPORT_LINES]
        end = next((n for n, part in enumerate(report) if "---[ end" in part), None)
        if end is not None:
            report = report[: end + 1]
            skip_until = index + end + 1
        found.append(Complaint(kind, _STAMP.sub("", line), "\n".join(report)))
    return found


def headline(path: Path) -> str | None:
    """Return the line with which the guest's last words began, if it panicked."""
    found = complaints(read(path))
    return found[0].headline if found else None


def readable(record: str) -> str:
    """Return a /dev/kmsg record as `[  12.345678] warn: text`.

    Source: Documentation/ABI/testing/dev-kmsg.
    """
    prefix, _, text = record.partition(";")
    level, _, microseconds, *_ = prefix.split(",")
    first, *_ = text.splitlines() or [""]
    return f"[{int(microseconds) / 1e6:12.6f}] {LEVELS[int(level) & 7]}: {first}"
