"""A guest's console: its last lines, its panics, and complaints that no scenario may cause."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.errors import TAIL_LINES, harmless
from vfio_lab.util.files import ends

TAIL_BYTES = 1 << 16
MOST_BYTES = 1 << 24
REPORT_LINES = 30
LONGEST_REPORT_LINES = 150
LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")

# The first lines of reports by kernel/panic.c (WARNING), lib/bug.c and mm (BUG), mm/slub.c,
# arch/x86/kernel/{dumpstack,traps}.c (Oops), kernel/locking/lockdep.c, mm/kasan, lib/ubsan.c,
# kernel/rcu/{tree_stall,tree_exp,tasks}.h, kernel/hung_task.c, kernel/watchdog.c, mm/kmemleak.c.
_COMPLAINTS = {
    "panic": r"Kernel panic - not syncing",
    "KASAN": r"BUG: KASAN:",
    "UBSAN": r"UBSAN: ",
    "kmemleak": r"kmemleak: \d+ new suspected memory leaks",
    "lockdep": r"WARNING: (?:possible|bad|inconsistent|suspicious|held|lock|Nested|\w+IRQ|chain)"
    r"|WARNING: .* still has locks held|INFO: trying to register non-static key"
    r"|BUG: Invalid wait context",
    "WARN": r"WARNING: (?:CPU: \d+ PID: \d+ |\S+:\d+ )?at ",
    "hung task": r"INFO: task .* blocked.* for more than",
    "RCU stall": r"INFO: rcu\w* (?:self-)?detected",
    "lockup": r"watchdog: BUG: soft lockup|Watchdog detected hard LOCKUP",
    # An exception in a user program reads "traps: NAME[PID] general protection fault ip:..."
    "Oops": r"Oops: |: [0-9a-f]{4} \[#\d+\]|PANIC: |BUG: unable to handle|BUG: kernel NULL",
    "refcount": r"refcount_t: ",
    "BUG": r"\bBUG: |kernel BUG at |\bBUG \S.* \((?:Not tainted|Tainted)",
    "list": r"list_(?:add|del) corruption",
}
_FATAL = frozenset({"panic", "Oops", "BUG", "lockup"})
# These reports end with a known line; everything in between belongs to the report.
_WITH_END = frozenset({"panic", "UBSAN", "WARN", "Oops", "refcount", "BUG", "list"})
_END = "---[ end "
_BEGIN = "---[ cut here ]---"
_PATTERN = re.compile(
    "|".join(f"(?P<k{index}>{text})" for index, text in enumerate(_COMPLAINTS.values()))
)
_KINDS = tuple(_COMPLAINTS)
_RECORD = re.compile(r"(?P<level>[0-9]{1,9}),[0-9]*,(?P<us>[0-9]{1,18})(,[^;]*)?;")
_STAMP = re.compile(r"^\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")


@dataclass(frozen=True)
class Complaint:
    """A report of an error by the kernel.

    Args:
        kind: `WARN`, `lockdep`, `KASAN`, ...
        headline: the line that begins it, without its time stamp.
        report: that line and the relevant lines around it.
    """

    kind: str
    headline: str
    report: str


def read_console(path: Path) -> str:
    """Return a console's text without control sequences, empty if there is none.

    Of a very long one the middle is left out.
    """
    return harmless(ends(path, MOST_BYTES))


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Return a console's last lines, empty if there are none."""
    return "\n".join(harmless(ends(path, 2 * TAIL_BYTES))[-TAIL_BYTES:].splitlines()[-lines:])


def complaints(text: str) -> list[Complaint]:
    """Return the kernel's complaints in a console or kernel log, in order.

    Lines inside a report are not counted again: a WARN ends with its `---[ end trace`.
    """
    lines = text.splitlines()
    found: list[Complaint] = []
    skip_until = 0
    for index, line in enumerate(lines):
        match = None if index < skip_until else _PATTERN.search(line)
        if match is None:
            continue
        kind = _KINDS[int((match.lastgroup or "k0")[1:])]
        end = _end(lines, index) if kind in _WITH_END else None
        report = lines[_begin(lines, index) : end][:REPORT_LINES]
        skip_until = end or 0
        found.append(Complaint(kind, _STAMP.sub("", line), "\n".join(report)))
    return found


def _begin(lines: list[str], headline: int) -> int:
    """Return where a report begins: the message of a WARN precedes its headline."""
    for index in range(headline - 1, max(headline - 4, -1), -1):
        if _BEGIN in lines[index]:
            return index
    return headline


def _end(lines: list[str], begin: int) -> int | None:
    """Return where the report that begins there ends, None if it has no end line."""
    for index, line in enumerate(lines[begin : begin + LONGEST_REPORT_LINES], begin):
        if _END in line:
            return index + 1
        if _BEGIN in line and index > begin:
            return None
    return None


def last_words(path: Path) -> str | None:
    """Return the headline that explains a guest's end, None if there are no complaints.

    It is the first fatal complaint, or else the first complaint.
    """
    found = complaints(read_console(path))
    found.sort(key=lambda complaint: complaint.kind not in _FATAL)
    return found[0].headline if found else None


@dataclass(frozen=True)
class LogRecord:
    """A record of the kernel log.

    Args:
        level: by its kernel name.
        us: microseconds since boot.
        text: its first line.
    """

    level: str
    us: int
    text: str


def parse_record(record: str) -> LogRecord:
    """Return what a /dev/kmsg record says; one that is none is all text.

    Source: Documentation/ABI/testing/dev-kmsg.
    """
    match = _RECORD.match(record)
    text = record[match.end() :] if match else record
    first, *_ = text.splitlines() or [""]
    level, us = (int(match["level"]), int(match["us"])) if match else (6, 0)
    return LogRecord(LEVELS[level & 7], us, first)


def readable(record: str) -> str:
    """Return a /dev/kmsg record as `[  12.345678] warn: text`."""
    parsed = parse_record(record)
    return f"[{parsed.us / 1e6:12.6f}] {parsed.level}: {parsed.text}"
