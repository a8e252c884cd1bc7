"""Transcripts: the calls that users made, and the kernel's answers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from vfio_lab.client.answer import Answer
from vfio_lab.client.call import Buffer, name_of, shortened
from vfio_lab.client.channel import Pending
from vfio_lab.errors import LabError
from vfio_lab.util.deadline import current_attempt

NEVER_RETURNED = "never returned"
UNANSWERED_AT_DEATH = "not answered, the user ended"


@dataclass
class Entry:
    """One call of a user; its answer comes later, or never.

    Args:
        began: when the user was asked to call, seconds since the epoch.
        ended: when the answer arrived, None before.
        user: its name.
        call: system call or ioctl, by its kernel name, or the agent's operation.
        arguments: in words.
        result: the value in words, or an errno by its name; empty before the answer.
        pid: the user's process.
        syscall: the system call's name, empty for an operation of the agent.
        given: the system call's arguments.
        options: the operation's arguments.
        pending: the request.
        answer: as it came from the agent.
        failed_allocation: which of the kernel's allocations the lab failed in this call, 0 if none.
        attempt: which wait it is a part of, and how often that has looked; None if it is none.
    """

    began: float
    ended: float | None
    user: str
    call: str
    arguments: str
    result: str = ""
    pid: int = 0
    syscall: str = ""
    given: tuple[int | Buffer, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    pending: Pending | None = field(default=None, repr=False)
    answer: Answer = field(default_factory=Answer)
    failed_allocation: int = 0
    attempt: tuple[int, int] | None = field(default_factory=current_attempt)

    def __repr__(self) -> str:
        """Return `pf_user: close(0x3) = EBADF`."""
        call = f"{self.user}: {self.call}({shortened(self.arguments)})"
        return f"{call} has not returned" if self.ended is None else f"{call} = {self.result}"

    def settle(self, answer: Answer) -> None:
        """Take the answer."""
        self.ended, self.answer = answer["ended"], answer
        if "error" in answer:
            self.result = "the agent failed"
        else:
            self.result = name_of(answer["errno"]) if answer["errno"] else str(answer["value"])

    def look(self) -> None:
        """Take an answer that nobody has waited for; if there is none, record that."""
        if self.ended is not None or self.pending is None:
            return
        with contextlib.suppress(LabError):  # a guest that is lost answers no more
            if self.pending.answered:
                self.settle(self.pending.channel.answers[self.pending.id])
                return
        gone = self.pid in self.pending.channel.ended
        self.result = UNANSWERED_AT_DEATH if gone else NEVER_RETURNED
