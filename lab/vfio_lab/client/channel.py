"""Requests to an agent and its answers, over any stream of bytes.

The stream is the guest's virtio-serial port or an SSH channel. Only one thread uses a
channel. A request may be left pending while others are made, because a user may block in the
kernel for as long as another holds a device.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.client.answer import Answer, parse_answer
from vfio_lab.client.call import shortened
from vfio_lab.errors import AgentError, DeadlineExceeded, GuestLost, LabError
from vfio_lab.util.deadline import Deadline

ROUTER = 0
READ_BYTES = 1 << 16
SEND_TIMEOUT_S = 20.0
SHOWN_CHARACTERS = 200
LONGEST_ANSWER_BYTES = 1 << 26  # more than the largest file that a user reads, in hex
MOST_ENDS = 1 << 16  # of users
LATE_READS = (
    64  # what has arrived by the end of a deadline counts; a stream without an end does not
)


class UserGone(AgentError):
    """A user's process ended before it answered a request.

    Args:
        about: the request in words.
        guest: the guest's name.
        code: the process's exit code, -N for signal N, None if another process reaped it.
    """

    def __init__(self, about: str, guest: str, code: int | None, log: Path | None = None) -> None:
        super().__init__(
            f"the user died at: {about}",
            guest=guest,
            expected="an answer",
            seen=f"exit {code}",
            where=log,
            hint="a negative exit is the number of the signal that killed it",
        )
        self.exit = code


class Carrier(Protocol):
    """The methods of a socket or a paramiko channel that `Channel` uses."""

    def recv(self, size: int, /) -> bytes:
        """Return up to `size` bytes, empty at the end; TimeoutError when none come in time."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of `data`."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Set the timeout of the calls above."""

    def close(self) -> None:
        """Close both directions."""


@dataclass
class Pending:
    """A request whose answer has not been taken yet."""

    channel: Channel
    pid: int
    id: int
    about: str
    began: float = field(default_factory=time.time)

    def __repr__(self) -> str:
        """Return `Pending(VERB by pid 97)`."""
        return f"{type(self).__name__}({shortened(self.about)} by pid {self.pid})"

    @property
    def answered(self) -> bool:
        """Whether the answer has arrived; does not wait for it."""
        self.channel.pump(Deadline.after(0), once=True)
        return self.id in self.channel.answers

    def wait(self, deadline: Deadline) -> Answer:
        """Return the answer.

        Raises:
            DeadlineExceeded: no answer in time; the request stays pending.
            GuestLost: the carrier closed.
            UserGone: the user ended without answering.
            AgentError: the agent failed at the request.
        """
        late_reads = 0
        while self.id not in self.channel.answers:
            late_reads += deadline.passed
            if self.pid in self.channel.ended:
                channel = self.channel
                raise UserGone(self.about, channel.name, channel.ended[self.pid], channel.log)
            if not self.channel.pump(deadline) or late_reads > LATE_READS:
                raise self.channel.late(f"no answer to: {self.about}", deadline)
        answer = self.channel.answers[self.id]
        if "error" in answer:
            raise AgentError(
                f"the agent failed at: {self.about}",
                guest=self.channel.name,
                expected="a result or an errno",
                seen="an exception in the agent",
                tail=answer["error"],
                where=self.channel.log,
            )
        return Answer({**self.channel.answers.pop(self.id), "began": self.began})


@dataclass
class Channel:
    """One agent's stream.

    Args:
        carrier: the connected stream.
        name: the guest's name, for errors.
        circumstances: more fields for errors, gathered when one is raised: what the console
            said, how QEMU ended.
        log: the file with the guest's output.
        architecture: the machine's, which gives the numbers of system calls.
        kind_of_loss: returns the class of the error once the carrier has closed.
        stall: returns an error if no answer can come any more; called during each wait.
    """

    carrier: Carrier
    name: str
    error_context: Callable[[], dict[str, Any]] = field(default=dict)
    log: Path | None = None
    architecture: Architecture = X86_64
    kind_of_loss: Callable[[], type[GuestLost]] = field(default=lambda: GuestLost)
    answers: dict[int, Answer] = field(default_factory=dict)
    ended: dict[int, int | None] = field(default_factory=dict)
    ready: bool = False
    last_seen: str = ""
    stall: Callable[[str], LabError | None] = field(default=lambda _what: None)
    _stalled: LabError | None = None
    _partial: bytearray = field(default_factory=bytearray)
    _asked: set[int] = field(default_factory=set)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __repr__(self) -> str:
        """Return `Channel(GUEST)`."""
        return f"{type(self).__name__}({self.name})"

    def start(self, pid: int, op: str, about: str, /, **args: object) -> Pending:
        """Send a request and return without waiting.

        Args:
            pid: the user to ask, or `ROUTER`.
            op: the agent's operation.
            about: the request in words, for errors.
            args: the operation's arguments.

        Raises:
            DeadlineExceeded: the guest no longer reads.
            GuestLost: the carrier closed.
        """
        if self._stalled is not None:
            raise self._stalled
        number = next(self._ids)
        body = json.dumps({"id": number, "op": op, "args": args}, separators=(",", ":"))
        try:
            self.carrier.settimeout(SEND_TIMEOUT_S)
            self.carrier.sendall(f"{pid} {body}\n".encode())
        except TimeoutError as error:
            raise self.late(f"the guest does not listen to: {about}") from error
        except OSError as error:
            raise self._lost(f"the guest went away before: {about}") from error
        self._asked.add(number)
        return Pending(self, pid, number, about)

    def call(
        self, pid: int, op: str, about: str, /, *, deadline: Deadline, **args: object
    ) -> Answer:
        """Send a request and return its answer; raises what `start` and `Pending.wait` raise.

        Args:
            pid: the user to ask, or `ROUTER`.
            op: the agent's operation.
            about: the request in words, for errors.
            deadline: when to give up waiting for the answer.
            args: the operation's arguments.
        """
        return self.start(pid, op, about, **args).wait(deadline)

    def await_ready(self, deadline: Deadline) -> None:
        """Wait until a freshly booted agent has announced itself."""
        while not self.ready:
            if not self.pump(deadline):
                raise self.late("the agent never announced itself", deadline)

    def pump(self, deadline: Deadline, *, once: bool = False) -> bool:
        """Read what arrives before the deadline; return whether anything did.

        Raises:
            GuestLost: the carrier closed.
            AgentError: a line that arrived is no answer.
        """
        data = self._receive(deadline)
        if data is None:
            return False
        if not data:
            raise self._lost("the guest went away")
        self._partial += data
        lines: list[bytearray] = []
        if b"\n" in data:
            *lines, self._partial = self._partial.split(b"\n")
        strange = [line for line in lines if not self._take(line)]
        if len(self._partial) > LONGEST_ANSWER_BYTES:
            strange, self._partial = [self._partial], bytearray()
        if strange:
            seen = repr(bytes(strange[0][:SHOWN_CHARACTERS]))
            raise AgentError(
                "a line from the agent's port is no answer",
                guest=self.name,
                expected="a line of JSON with the id of a request",
                seen=seen,
                where=self.log,
            )
        return bool(lines) or once or not deadline.passed

    def _receive(self, deadline: Deadline) -> bytes | None:
        """Return what arrives before the deadline, None if nothing does."""
        while True:
            try:
                # A timeout of zero would make the socket non-blocking and raise another error.
                self.carrier.settimeout(max(0.0005, deadline.slice_s))
                return self.carrier.recv(READ_BYTES)
            except TimeoutError:
                if deadline.passed:
                    return None
            except OSError as error:
                raise self._lost("the guest's agent port broke") from error
            if error_ := self.stall("the guest made no progress"):
                self._stalled = error_
                raise error_

    def close(self) -> None:
        """Close the carrier; an agent on a virtio port then ends its guest."""
        self.carrier.close()

    def late(self, what: str, deadline: Deadline | None = None) -> DeadlineExceeded:
        """Return the error for a wait that timed out, with the last answer."""
        facts = self.error_context()
        if deadline is not None:
            facts["expected"] = f"it within {deadline.told}"
        last = f"last answer: {self.last_seen or '<none>'}"
        facts["seen"] = "; ".join(filter(None, [last, facts.get("seen")]))
        return DeadlineExceeded(what, guest=self.name, **facts)

    def _lost(self, what: str) -> GuestLost:
        context = self.error_context()  # waits for QEMU's end, which tells the kind
        return self.kind_of_loss()(what, guest=self.name, **context)

    def _take(self, line: bytearray) -> bool:
        """Take one message; return whether the line is one that an agent may send."""
        message = parse_answer(bytes(line))
        if message is None:
            return False
        match message:
            case {"event": "ready"}:
                self.ready = True
            case {"event": "exit", "pid": pid, "exit": code} if len(self.ended) < MOST_ENDS:
                self.ended[pid] = code
            case {"id": number} if number in self._asked:
                self._asked.remove(number)
                self.answers[number] = Answer({**message, "ended": time.time()})
            case _:
                return False
        self.last_seen = line[:SHOWN_CHARACTERS].decode(errors="replace")
        return True
