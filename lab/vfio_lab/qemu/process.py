"""The lifetime of a QEMU process.

The kernel kills QEMU when the thread that started it dies (PR_SET_PDEATHSIG), so that even a
`kill -9` of a test run leaves nothing behind. The parent of a guest that may be kept is a
supervisor, which dies with the run unless the run keeps the guest: see `vfio_lab.qemu.supervisor`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.errors import GuestKilled, GuestLost, LaunchError, QemuCrashed
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.jail import Jail

# If the parent dies between fork and prctl, there is no signal, so check the parent's PID.
# A crash leaves a core beside the log, where the host's core_pattern is as the kernel has it.
# When memory runs out, the kernel should kill a guest, which is started again, and not the run.
GUARD = (
    'umask 077; [ "$PPID" = "$0" ] || exit 1; ulimit -c unlimited 2>/dev/null;'
    ' { echo 500 >/proc/self/oom_score_adj; } 2>/dev/null; exec "$@"'
)
KILLS = (signal.SIGKILL, signal.SIGTERM)
SIGNALLED = 128  # bubblewrap's exit code is this and the number of the signal that ended QEMU
KILLED_POLITELY = "terminating on signal"  # QEMU's words, softmmu/runstate.c
KEPT: list[Qemu] = []  # forgotten, Python would complain that they still run

SUPERVISOR = "vfio_lab.qemu.supervisor"


@dataclass(frozen=True)
class Qemu:
    """A running QEMU.

    Args:
        process: the child: QEMU, or bubblewrap or a supervisor with QEMU below it.
        argv: its command line.
        log: the file with its stdout and stderr.
        supervisor: the socket to the supervisor, if `process` is one.
        jailed: whether it runs in a jail.
    """

    process: subprocess.Popen[bytes]
    argv: tuple[str, ...]
    log: Path
    supervisor: socket.socket | None = None
    jailed: bool = False

    def __repr__(self) -> str:
        """Return `Qemu(pid 4711)`; its command line is in the evidence."""
        return f"{type(self).__name__}(pid {self.process.pid})"

    @classmethod
    def launch(
        cls,
        argv: Sequence[str],
        log: Path,
        inherit: Sequence[int],
        *,
        jail: Jail | None = None,
        keepable: bool = False,
    ) -> Qemu:
        """Start QEMU.

        Args:
            argv: the command line, the binary first.
            log: the file for its stdout and stderr.
            inherit: descriptors that the command line refers to.
            jail: what it may write and read; None does not confine it.
            keepable: whether `keep` may be called.

        Raises:
            LaunchError: the binary cannot be executed.
        """
        if shutil.which(argv[0]) is None:  # the guard below would only exit with 127
            raise LaunchError(f"cannot start {argv[0]}", seen="no such executable file")
        command, jailed = (jail.wrap(argv), True) if jail else (argv, False)
        if not keepable:
            process = _start(argv[0], guarded(command), log, inherit)
            return cls(process, tuple(argv), log, jailed=jailed)
        ours, theirs = socket.socketpair()
        with theirs:
            fds = ",".join(map(str, inherit))
            supervisor = [sys.executable, "-m", SUPERVISOR, str(theirs.fileno()), fds, *command]
            process = _start(argv[0], supervisor, log, [*inherit, theirs.fileno()])
        return cls(process, tuple(argv), log, ours, jailed)

    def keep(self, *wires: int) -> None:
        """Let QEMU run on after this process ends; it must have been launched as keepable.

        Args:
            wires: descriptors that must stay open for the guest to live.
        """
        if self.supervisor is None:
            raise ValueError("it has no supervisor")
        socket.send_fds(self.supervisor, [b"k"], wires)
        KEPT.append(self)

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def await_end(self, deadline: Deadline) -> bool:
        """Wait for the process to end by itself; return whether it did."""
        while not deadline.passed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(deadline.slice_s)
                return True
        return self.ended

    @property
    def exit_code(self) -> int | None:
        """The exit code; of a signal, the negative number of it; None while it runs."""
        code = self.process.poll()
        if self.jailed and code is not None and code > SIGNALLED:
            return SIGNALLED - code
        return code

    def kind_of_loss(self) -> type[GuestLost]:
        """Return what the end of the process means to a caller that still needed it."""
        code = self.exit_code or 0
        if -code in KILLS or KILLED_POLITELY in self.log.read_text(errors="replace"):
            return GuestKilled
        return QemuCrashed if code < 0 else GuestLost

    def how_it_ended(self) -> str:
        """Return a description of the exit, with QEMU's output."""
        code = self.exit_code
        output = self.log.read_text(errors="replace").strip()
        if code is None:
            ending = "still running"
        elif code < 0:
            ending = f"killed by signal {-code}"
        else:
            ending = f"exited with code {code}"
        return f"QEMU {ending}" + (f", saying: {output[-2000:]}" if output else "")

    def kill(self) -> None:
        """Kill the process and reap it; a clone has no data to save."""
        if not self.ended:
            self.process.kill()
        self.process.wait()
        if self.supervisor is not None:
            self.supervisor.close()


def guarded(argv: Sequence[str]) -> list[str]:
    """Return a command line whose process is killed when this thread dies."""
    return ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", GUARD, str(os.getpid()), *argv]


def _start(
    name: str, command: Sequence[str], log: Path, inherit: Sequence[int]
) -> subprocess.Popen[bytes]:
    try:
        log.touch(mode=0o600)
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(inherit),
                cwd=log.parent,
                start_new_session=True,  # Ctrl-C is for this process, which then ends the guest
            )
    except OSError as error:
        raise LaunchError(f"cannot start {name}", seen=str(error)) from error
