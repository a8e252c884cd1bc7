"""Somebody at a terminal of their own, and runs that leave guests behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vfio_lab.image import payload
from vfio_lab.machine.ssh import Login, Ssh
from vfio_lab.machine.template import GuestFactory
from vfio_lab.spec.scenarios import PROJECT
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.util.process import pipeline

TYPING_TIMEOUT_S = 120.0
READ_BYTES = 1 << 16
VISIT_TIMEOUT_S = 60.0


@dataclass
class Session:
    """A command on a terminal.

    Args:
        process: its subprocess id.
        terminal: our end of the terminal.
    """

    process: int
    terminal: int
    screen: str = ""

    def types(self, line: str) -> None:
        """Type a line."""
        os.write(self.terminal, f"{line}\n".encode())

    def resizes(self, columns: int, rows: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def sees(self, text: str) -> bool:
        """Wait for a text to appear on what is not yet read of the screen; say if it did."""
        deadline = Deadline.after(TYPING_TIMEOUT_S)
        while text not in self.screen:
            if not select.select([self.terminal], [], [], deadline.remaining_s)[0]:
                return False
            try:
                data = os.read(self.terminal, READ_BYTES)
            except OSError:  # EIO: nobody has the other end open any more
                return False
            self.screen += data.decode(errors="replace")
        self.screen = self.screen.partition(text)[2]
        return True

    def exit_code(self) -> int:
        """Wait for the end of the command and return its exit code."""
        while self.sees("\n"):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@pytest.fixture
def at_a_terminal() -> Iterator[Callable[..., Session]]:
    """Return what runs `vfio-lab WORDS...` on a terminal of its own."""
    begun: list[Session] = []

    def begin(*words: str) -> Session:
        pid, terminal = os.forkpty()
        if pid == 0:
            os.chdir(PROJECT)
            command = [sys.executable, "-c", "from vfio_lab.cli import main; main()", *words]
            os.execv(command[0], command)  # noqa: S606 - the child of a forkpty has no other way
        begun.append(Session(pid, terminal))
        return begun[-1]

    yield begin
    for session in begun:
        os.close(session.terminal)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(session.process, signal.SIGKILL)
            os.waitpid(session.process, 0)


@dataclass
class KeptGuest:
    """A guest that a run has left behind, as it told people.

    Args:
        login: how to get in.
        supervisor: what to kill.
    """

    login: Login
    supervisor: int

    def lives(self) -> bool:
        """Whether one can get in and run something."""
        with contextlib.closing(Ssh(self.login, Deadline.after(VISIT_TIMEOUT_S))) as ssh:
            return ssh.run("true", deadline=Deadline.after(VISIT_TIMEOUT_S)).exit == 0

    def end(self) -> None:
        """Do what the run said would end it."""
        os.kill(self.supervisor, signal.SIGTERM)


@dataclass
class FailedRun:
    """What a run with --lab-keep=fail has left behind.

    Args:
        folder: its evidence, which every QEMU has in its command line.
        kept: the guests that it told of.
    """

    folder: Path
    kept: list[KeptGuest]

    def qemus(self) -> int:
        """Return how many QEMUs of the run are there now."""
        found = 0
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = path.read_bytes()
                found += (
                    b"-accel" in command
                    and b"vfio_lab.qemu.supervisor" not in command
                    and (os.fsencode(self.folder) in command)
                )
        return found

    def await_qemus(self, count: int) -> bool:
        """Wait until so many are left."""
        deadline = Deadline.after(VISIT_TIMEOUT_S)
        return wait_until(f"{count} QEMUs", lambda: self.qemus() == count, deadline)


@pytest.fixture
def run_that_keeps(
    tmp_path: Path, guest_factory: GuestFactory
) -> Iterator[Callable[[str], FailedRun]]:
    """Return what runs scenarios with --lab-keep=fail, spread over two workers."""
    runs: list[FailedRun] = []
    keys = payload.keys(guest_factory.cache)

    def run(scenarios: str) -> FailedRun:
        (tmp_path / "test_it.py").write_text(scenarios)
        where = ["-c", str(PROJECT / "pyproject.toml"), "--rootdir", str(PROJECT)]
        options = ["-n", "2", "--lab-keep=fail", "--lab-artifacts", str(tmp_path)]
        command = [sys.executable, "-m", "pytest", *where, *options, str(tmp_path / "test_it.py")]
        log = tmp_path / "log"
        pipeline("run scenarios", command, log=log, cwd=PROJECT, accepted=(1,))
        ways = re.findall(r"-p(\d+) .*\n.*kill (\d+)", log.read_text())
        logins = [
            Login("127.0.0.1", int(port), "root", keys / "user", keys / "host.pub")
            for port, _ in ways
        ]
        kept = [KeptGuest(login, int(pid)) for login, (_, pid) in zip(logins, ways, strict=True)]
        runs.append(FailedRun(tmp_path, kept))
        return runs[-1]

    yield run
    for kept in (guest for one in runs for guest in one.kept):
        with contextlib.suppress(ProcessLookupError):
            kept.end()
