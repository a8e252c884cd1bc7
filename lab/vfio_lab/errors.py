"""Everything the lab can say went wrong, as one tree.

    LabError            125  cannot judge
    |- UsageError         2  the caller asked for what does not exist
    |- HostError          2  this host lacks something, and the hint says what to install or free
    |- BuildError       125  a kernel, image or template could not be made
    |- LaunchError      125  QEMU refused its command line or died before it ran
    |- BootError        125  the guest started and never became ready
    |  `- WrongClock    125  it did, with a clock that is far from the host's
    |- GuestLost          1  a running guest panicked or reset
    |  |- GuestKilled   125  the host killed its QEMU
    |  |- GuestStopped  125  the host stopped its QEMU
    |  `- QemuCrashed   125  its QEMU crashed
    |- DeadlineExceeded   1  a wait ran out; carries the last thing it saw
    |- AgentError         1  the resident agent answered with a failure of its own
    `- LeftBehind         1  what ran in a guest left something there

A refusal by the kernel under test is not a failure of the lab: see `vfio_lab.client.call.Refusal`.
"""

from __future__ import annotations

import re
from pathlib import Path

TAIL_LINES = 40
LONGEST_LINE = 4000
# Control characters but for newline and tab, what turns the direction of text, and halves of
# surrogate pairs, which no encoding has.
UNPRINTABLE = (
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# CSI sequences, and other escapes: the firmware resets the terminal.
_CONTROL = re.compile(rf"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]|{UNPRINTABLE}")


def harmless(text: str) -> str:
    """Return what others wrote as a terminal may show it: no control sequences, no endless line."""
    text = _CONTROL.sub("", text)
    lines = (
        line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}... ({len(line)} characters)"
        for line in text.split("\n")
    )
    return "\n".join(lines)


class LabError(Exception):
    """Says what was tried, where, what was expected and seen, and what to do.

    Args:
        what: the attempt that failed, one sentence.
        guest: name of the guest, as in its evidence folder.
        device: BDF or node the attempt was about.
        expected: what should have been there.
        seen: what was there instead.
        tail: last lines of the console or build log; empty text is shown as such.
        where: the file with the rest.
        hint: what the reader can do; without one, what usually helps with its kind.
    """

    exit_code = 125
    usual_hint = "docs/errors.md says what it may be"

    def __init__(  # noqa: PLR0913 - the fields of a report, all optional and named
        self,
        what: str,
        *,
        guest: str | None = None,
        device: str | None = None,
        expected: str | None = None,
        seen: str | None = None,
        tail: str | None = None,
        where: Path | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.guest = guest
        self.device = device
        self.expected = expected
        self.seen = seen
        self.tail = tail
        self.where = where
        self.hint = hint or self.usual_hint

    def __str__(self) -> str:
        """Return the report, the hint last."""
        lines = [self.what]
        fields = {
            "guest": self.guest,
            "device": self.device,
            "expected": self.expected,
            "seen": self.seen,
        }
        lines += [f"  {name}: {value}" for name, value in fields.items() if value is not None]
        if self.tail is not None:
            lines.append("  last output:")
            lines += [f"    | {line}" for line in self.tail.splitlines()[-TAIL_LINES:]] or [
                "    | <empty>"
            ]
        if self.where is not None:
            lines.append(f"  the rest: {self.where}")
        lines.append(f"  hint: {self.hint}")
        return harmless("\n".join(lines))


class UsageError(LabError):
    """The caller asked for something that does not exist."""

    exit_code = 2
    usual_hint = "`vfio-lab --help` says what there is, docs/errors.md more"


class HostError(LabError):
    """This host lacks something the lab needs."""

    exit_code = 2
    usual_hint = "`vfio-lab doctor` says what this host lacks and how to get it"


class BuildError(LabError):
    """A kernel, image or template could not be made."""

    usual_hint = "the log has all of it; `vfio-lab doctor` says whether it is this host"


class LaunchError(LabError):
    """QEMU refused its command line or died before the guest ran."""

    usual_hint = "`vfio-lab doctor` tries this QEMU"


class BootError(LabError):
    """The guest started and never became ready."""

    usual_hint = "the console says how far it came; with --lab-cold it boots where a clone failed"


class WrongClock(BootError):
    """The guest's clock goes much faster than the host's."""

    usual_hint = "its kernel measured the TSC while the host was busy: run it again"


class GuestLost(LabError):
    """A running guest panicked, reset or lost its QEMU."""

    exit_code = 1
    usual_hint = "the console has its last words; command.sh, if there is one, boots the same guest"


class GuestKilled(GuestLost):
    """The host killed a guest's QEMU: that says nothing about the kernel in it."""

    exit_code = 125
    usual_hint = "who killed it? Out of memory: `dmesg | grep -i oom`, and fewer guests with -n"


class GuestStopped(GuestLost):
    """The host stopped a guest's QEMU: that says nothing about the kernel in it."""

    exit_code = 125
    usual_hint = "who sent it SIGSTOP, or debugs it?"


class QemuCrashed(GuestLost):
    """A guest's QEMU crashed: that is a find, about QEMU."""

    exit_code = 125
    usual_hint = "crash.txt in the evidence has the backtrace and the last calls"


class DeadlineExceeded(LabError):
    """A wait ran out of time."""

    exit_code = 1
    usual_hint = "does it wait for something that cannot come, or is this host overloaded?"


class AgentError(LabError):
    """The resident agent failed at something that is not a system call's verdict."""

    exit_code = 1
    usual_hint = "the last output is the guest's own; look into it with `vfio-lab shell`"


class LeftBehind(LabError):
    """Scenarios in one guest left something there when all was closed and unbound."""

    exit_code = 1
    usual_hint = "before.txt has what ran before, in order; docs/long-life.md says how to repeat it"
