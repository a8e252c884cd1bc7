"""Transcripts: what users asked the kernel for, and what it said."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One line of a scenario's transcript.

    Args:
        began: when the user was asked to call, seconds since the epoch.
        ended: when the answer was there.
        user: its name.
        call: system call or ioctl, by its kernel name.
        arguments: in words.
        result: in words, an errno by its name.
    """

    began: float
    ended: float
    user: str
    call: str
    arguments: str
    result: str


def transcript(entries: Iterable[Entry]) -> str:
    """Return a transcript as text, a line per call: time, user, call, arguments, result."""
    lines = []
    for entry in entries:
        clock = time.strftime("%H:%M:%S", time.gmtime(entry.began))
        stamp = f"{clock}.{int(entry.began % 1 * 1e6):06d}"
        lines.append(f"{stamp} {entry.user:<12} {entry.call}({entry.arguments}) = {entry.result}")
    return "\n".join(lines) + "\n" if lines else ""
