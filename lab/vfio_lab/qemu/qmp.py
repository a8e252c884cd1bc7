"""A synchronous client of QEMU's monitor; the only module that imports qemu.qmp."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate

from vfio_lab.errors import DeadlineExceeded, GuestLost, LabError
from vfio_lab.util.deadline import Deadline

T = TypeVar("T")
GREETING_TIMEOUT_S = 10.0
HANG_UP_S = 1.0


class QmpRefusal(LabError):
    """QEMU answered a command with an error."""


class Qmp:
    """A monitor connection that belongs to one thread at a time.

    Args:
        sock: our end of the socket that QEMU inherited.
        name: the guest's name, for errors.
        log: the file for all messages, one JSON line per message, with its time.
        error_context: more fields for errors, gathered when QEMU is gone.

    Raises:
        GuestLost: QEMU is gone.
        DeadlineExceeded: QEMU does not greet.
    """

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        log: Path,
        error_context: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.name = name
        self._error_context = error_context
        # Which error it is when QEMU is gone, and, while it is awaited, whether it stands still.
        self.kind_of_loss: Callable[[], type[GuestLost]] = lambda: GuestLost
        self.stall: Callable[[str], LabError | None] = lambda _what: None
        self.events: list[dict[str, Any]] = []
        log.touch(mode=0o600)
        self._log = log.open("ab", buffering=0)
        self._loop = asyncio.new_event_loop()
        # With a name it adds a logger, while pytest may be going through all loggers.
        self._client = QMPClient()
        sock.setblocking(False)
        try:
            self._run(self._client.connect(sock), "greeting", Deadline.after(GREETING_TIMEOUT_S))
        except BaseException:
            self.close()
            raise

    def execute(self, command: str, *, deadline: Deadline, **arguments: object) -> Any:
        """Run a command of QEMU's monitor and return what it returns.

        Args:
            command: the command's name.
            deadline: when to give up waiting.
            arguments: the command's arguments; `_` in a name stands for `-`.

        Raises:
            QmpRefusal: QEMU answered with an error.
            DeadlineExceeded: QEMU did not answer in time.
            GuestLost: QEMU is gone.
        """
        sent = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._note({"execute": command, "arguments": sent})
        try:
            value = self._run(self._client.execute(command, sent), command, deadline)
        except ExecuteError as error:
            self._note({"error": str(error)})
            raise QmpRefusal(
                f"QEMU refused {command}",
                guest=self.name,
                expected="it to be carried out",
                seen=str(error),
                where=self.log_path,
                hint="the log has what was sent",
            ) from error
        self._note({"return": value})
        return value

    def await_event(self, event: str, *, deadline: Deadline) -> dict[str, Any]:
        """Return the next event of that name that was not yet returned; wait for it if necessary.

        Raises:
            DeadlineExceeded: the event did not arrive in time.
            GuestLost: QEMU is gone.
        """
        while True:
            for index, seen in enumerate(self.events):
                if seen["event"] == event:
                    return self.events.pop(index)
            self._take(self._run(self._next_event(), event, deadline))

    def forwarded_port(self, *, deadline: Deadline) -> int:
        """Return the port of the host's loopback that QEMU forwards to the guest's sshd."""
        command = "info usernet"
        text = str(self.execute("human-monitor-command", deadline=deadline, command_line=command))
        for words in map(str.split, text.splitlines()):
            if words and words[0].startswith("TCP[HOST_FORWARD]"):
                return int(words[3])
        raise LabError(
            "QEMU forwards no port to the guest's sshd",
            guest=self.name,
            expected=f"a line TCP[HOST_FORWARD] in the answer to {command!r}",
            seen=text,
            where=self.log_path,
            hint=f"try a QEMU of another version: this one answers {command!r} differently",
        )

    @property
    def log_path(self) -> Path:
        """The file with every message."""
        return Path(str(self._log.name))

    def close(self) -> None:
        """Disconnect; QEMU continues to run. Idempotent."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._client.disconnect(), "disconnect", Deadline.after(1))
        except (LabError, QMPError, EOFError):
            pass  # QEMU closed the connection first
        finally:
            self._loop.close()
            self._log.close()

    async def _next_event(self) -> Message:
        """Return the next event; unlike the client's own wait, stop when the connection closes."""
        event = asyncio.ensure_future(self._client.events.get())
        change = asyncio.ensure_future(self._client.runstate_changed())
        try:
            if self._client.runstate is Runstate.RUNNING:
                await asyncio.wait((event, change), return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)  # take an event that has already arrived
            if not event.done():
                raise EOFError("QEMU hung up")
            return event.result()
        finally:
            event.cancel()
            change.cancel()

    def _run(self, work: Coroutine[Any, Any, T], what: str, deadline: Deadline) -> T:
        task = self._loop.create_task(work)
        try:
            while not self._done(task, deadline.slice_s):
                self._give_up_if(what, deadline)
            result = task.result()
        except ExecuteError:
            raise
        except (QMPError, EOFError, OSError) as error:
            facts = {"where": self.log_path, **self._error_context()}
            facts["seen"] = "; ".join(filter(None, [repr(error), facts.get("seen")]))
            raise self.kind_of_loss()(
                f"QEMU's monitor closed during {what}", guest=self.name, **facts
            ) from error
        finally:
            if not task.done():
                task.cancel()
                self._done(task, HANG_UP_S)
        while not self._client.events.empty():
            self._take(self._loop.run_until_complete(self._client.events.get()))
        return result

    def _done(self, task: asyncio.Task[T], seconds: float) -> bool:
        self._loop.run_until_complete(asyncio.wait({task}, timeout=seconds))
        return task.done()

    def _give_up_if(self, what: str, deadline: Deadline) -> None:
        """Raise if no answer will come, or the deadline has passed."""
        late = f"QEMU's monitor did not answer {what}"
        error = self.stall(late)
        if error is None and deadline.passed:
            error = DeadlineExceeded(
                late,
                guest=self.name,
                expected=f"an answer or an event within {deadline.told}",
                seen=f"last event: {self.events[-1] if self.events else '<none>'}",
                where=self.log_path,
            )
        if error is not None:
            raise error

    def _take(self, message: Message) -> None:
        event = dict(message)
        self.events.append(event)
        self._note(event)

    def _note(self, message: dict[str, Any]) -> None:
        line = json.dumps({"at": time.time(), **message}, default=str) + "\n"
        with contextlib.suppress(OSError):  # a full disk: the log is evidence, and ends early
            self._log.write(line.encode())
