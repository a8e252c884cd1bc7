"""Pristine guests for users and scripts: run a command or a shell in one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from vfio_lab.client.call import Refusal
from vfio_lab.errors import LabError, UsageError
from vfio_lab.evidence import retention
from vfio_lab.hw.catalogue import find_topology as named_topology
from vfio_lab.hw.topology import Topology
from vfio_lab.interactive import terminal
from vfio_lab.machine.guest import SSH_TIMEOUT_S, Guest
from vfio_lab.machine.ssh import SshError, Terminal
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.files import append_whole

SESSIONS = "sessions"
HISTORY = "shell-history"
HISTORY_LINES = 500
RC = Path(__file__).parent / "shell.bash"
GUESTS_HISTORY = "/run/vfio-lab/history"
# The shell turns death by a signal into an exit code of 128+N.
COMMAND = ("sh", "-c", '"$@"; exit $?', "sh")
# The history file is the only file of the guest that the prompt changes.
PROMPT = (
    f'printf %s "$2" >{GUESTS_HISTORY}; exec bash --rcfile /proc/self/fd/3 -i 3<<<"$1"'  # no file
)


@contextlib.contextmanager
def pristine_guest(topology_name: str, kernel_name: str | None) -> Iterator[Guest]:
    """Yield a pristine guest, and throw it away at the end.

    Its console and logs are deleted too, unless the lab raised an error, which may refer to them.

    Args:
        topology_name: the name of the guest's hardware.
        kernel_name: as for `GuestFactory.open`.

    Raises:
        UsageError: there is no such topology or kernel.
        HostError: this host cannot run the guest.
        BootError: the guest did not become ready.
    """
    wanted = named_topology(topology_name)
    guest_factory = GuestFactory.open(Cache.default(), kernel_name)
    sessions = guest_factory.cache.root / SESSIONS
    retention.delete_old_runs(sessions)
    folder = retention.new_run_folder(sessions, wanted.name)
    failed = False
    try:
        with contextlib.closing(guest_factory.start(folder.name, wanted, folder)) as made:
            yield made
    except LabError:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)


def variables(topology: Topology) -> dict[str, str]:
    """Return the addresses of the functions under test, by shell variable: PF0, NIC0."""
    return {function.role.upper(): str(function.bdf) for function in topology.endpoints}


def run_command(guest: Guest, command: Sequence[str]) -> int:
    """Run a command in a guest with this process's streams; return its exit code.

    A command that signal N killed has the exit code 128+N.

    Raises:
        GuestLost: the guest was lost while the command ran.
        SshError: the connection broke.
    """
    words = ["env", *_assignments(guest), *COMMAND, *command]
    deadline = Deadline.after(SSH_TIMEOUT_S)
    return _ended(
        guest,
        terminal.streams(guest.ssh.carrier(*words, deadline=deadline)),
        command[0],
    )


def need_terminal() -> None:
    """Check that stdin and stdout are a terminal.

    Raises:
        UsageError: one of them is not.
    """
    if not (os.isatty(terminal.STDIN) and os.isatty(terminal.STDOUT)):
        raise UsageError(
            "a shell needs a terminal",
            expected="a terminal on stdin and stdout",
            seen="a pipe or a file",
            hint="for scripts: `vfio-lab run TOPOLOGY -- COMMAND...`",
        )


def open_shell(guest: Guest, cache: Cache) -> int:
    """Run a shell in a guest on this process's terminal; return the shell's exit code.

    Args:
        guest: the guest.
        cache: the cache that keeps the history between guests.

    Raises:
        GuestLost: the guest was lost; the history of this session is lost with it.
        SshError: the connection broke.
    """
    history = _read_history(cache)
    words = [
        "env",
        *_assignments(guest),
        "bash",
        "-c",
        PROMPT,
        "bash",
        rc(guest),
        history,
    ]
    deadline = Deadline.after(SSH_TIMEOUT_S)
    remote = guest.ssh.carrier(*words, deadline=deadline, terminal=Terminal.current())
    code = _ended(guest, terminal.terminal(remote), "the shell")
    with contextlib.suppress(Refusal):  # the user deleted the history file
        _append_history(cache, guest.root.read_file(GUESTS_HISTORY).removeprefix(history.rstrip()))
    return code


def rc(guest: Guest) -> str:
    """Return the commands that bash runs in the guest before its first prompt."""
    name = f"{guest.machine.topology.name}/{guest.machine.kernel.name}"
    return f"LAB={name}\nHISTFILE={GUESTS_HISTORY}\n{RC.read_text()}"


def greeting(guest: Guest) -> str:
    """Return the lines shown before the prompt: kernel, topology and functions."""
    topology, kernel = guest.machine.topology, guest.machine.kernel
    lines = [f"{topology.name} on kernel {kernel.name} ({kernel.release}): {topology.summary}"]
    for function in topology.endpoints:
        model = f"{function.model.qemu} [{function.model.vendor:04x}:{function.model.device:04x}]"
        lines.append(f"  {function.role:8} {function.bdf}  {model}")
    return "\n".join(lines)


def _assignments(guest: Guest) -> list[str]:
    return [f"{name}={bdf}" for name, bdf in variables(guest.machine.topology).items()]


def _ended(guest: Guest, code: int | None, what: str) -> int:
    if code is not None:
        return code
    guest.kernel_log()  # raises GuestLost if the guest is gone
    raise SshError(
        f"the SSH connection to the guest broke during {what}",
        guest=guest.name,
        expected="its exit code",
        seen="the end of the connection; the guest itself runs on",
        where=guest.console,
    )


def _read_history(cache: Cache) -> str:
    """Return the last lines of the history from earlier guests."""
    path = cache.open().root / HISTORY
    if not path.exists():
        return ""
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    return "".join(lines[-HISTORY_LINES:])


def _append_history(cache: Cache, lines: str) -> None:
    path = cache.open().root / HISTORY
    if lines.strip():
        with contextlib.suppress(OSError):  # on a full disk losing the history is not an error
            append_whole(path, lines.strip("\n") + "\n")
