"""Guests: a running QEMU with its agent, its monitor and its users."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vfio_lab.client.channel import ROUTER, Channel
from vfio_lab.client.transcript import Entry
from vfio_lab.client.user import User
from vfio_lab.errors import (
    BootError,
    DeadlineExceeded,
    GuestKilled,
    GuestStopped,
    LabError,
    QemuCrashed,
    WrongClock,
)
from vfio_lab.hw.topology import Topology
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.base import CALL_TIMEOUT_S, ClockAnchor, TestMachine, start_user
from vfio_lab.machine.clock import verify_clock
from vfio_lab.machine.debugger import Debugger, Hold, connected_to_gdbstub
from vfio_lab.machine.locks import LockWait
from vfio_lab.machine.ssh import Login, Ssh
from vfio_lab.machine.state import Snapshot
from vfio_lab.machine.survey import survey
from vfio_lab.qemu import console
from vfio_lab.qemu.accelerator import Accelerator
from vfio_lab.qemu.argv import BootFiles, RunFiles, argv
from vfio_lab.qemu.capabilities import QemuCaps
from vfio_lab.qemu.confinement import qemu_jail, relay
from vfio_lab.qemu.crash import backtrace
from vfio_lab.qemu.process import Qemu
from vfio_lab.qemu.qmp import Qmp
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.util.host_time import Progress, stalled_s
from vfio_lab.util.jail import Jail, confines
from vfio_lab.vfio import VfioUser

LOOPBACK = "127.0.0.1"
WAKE_TIMEOUT_S = 20.0
BOOT_TIMEOUT_S = 60.0
ENDING_TIMEOUT_S = 1.0
SSH_TIMEOUT_S = 30.0
SEED_BYTES = 64
AGENT_BY_HAND = "exec /run/vfio-lab/agent --stdio"
BOOT_LOG = "boot.log"  # beside a template's state: what the kernel said of vfio before
SETTLED = "/run/vfio-lab/settled"


@dataclass(frozen=True)
class BootSpec:
    """Everything that a guest is started from.

    Args:
        topology: the hardware.
        kernel: the kernel that it boots.
        caps: what this QEMU can do.
        accelerator: kvm or tcg.
        files: disks, and for clones the frozen memory and state.
        keys: folder with the cache's SSH keys.
    """

    topology: Topology
    kernel: Kernel
    caps: QemuCaps
    accelerator: Accelerator
    files: BootFiles
    keys: Path

    def __repr__(self) -> str:
        """Return `BootSpec(clone of igb on kernel 7.3)`."""
        how = "clone of " if self.frozen else ""
        name = f"{how}{self.topology.name} on kernel {self.kernel.name}"
        return f"{type(self).__name__}({name})"

    @property
    def frozen(self) -> bool:
        """Whether the guest is cloned from a template; if not, it boots from power-on."""
        return self.files.state is not None

    def jail(self, folder: Path) -> Jail | None:
        """Return what QEMU may write and read; None leaves it to QEMU's own sandbox.

        Args:
            folder: the folder for console and logs.
        """
        if self.kernel.trusted or not confines():
            return None
        writes = not self.caps.opens_memory_read_only
        how = self.accelerator.name
        return qemu_jail(self.caps.binary, self.files, folder, how, writes_memory=writes)


@dataclass(repr=False)
class Guest(TestMachine):
    """A pristine machine for one scenario; `close` throws it away.

    Args:
        name: unique in the run, also its evidence folder's.
        machine: what it was started from.
        folder: where console, logs and transcript go.
        qemu: the QEMU process.
        channel: the agent.
        monitor: the lab's end of QEMU's monitor.
        agent: the lab's end of the agent's port.
    """

    name: str
    machine: BootSpec
    folder: Path
    qemu: Qemu
    channel: Channel
    monitor: socket.socket
    agent: socket.socket
    transcript: list[Entry] = field(default_factory=list)
    users: list[VfioUser] = field(default_factory=list)
    awake: ClockAnchor | None = None
    kept: bool = False
    _log: list[str] = field(default_factory=list)

    @classmethod
    def launch(cls, name: str, machine: BootSpec, folder: Path, *, keepable: bool = False) -> Guest:
        """Start QEMU; the guest is not awake yet.

        Args:
            name: the guest's name, unique in the run; it also names its evidence.
            machine: what to start: the hardware, and the files of kernel, image or template.
            folder: where console, logs and transcript go; made if it is missing.
            keepable: whether the guest may outlive this process, see `keep`.

        Raises:
            LaunchError: the binary cannot be executed.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        monitor, monitor_end = socket.socketpair()
        agent, agent_end = socket.socketpair()
        with monitor_end, agent_end:
            run = RunFiles(folder, name, qmp_fd=monitor_end.fileno(), agent_fd=agent_end.fileno())
            command = argv(
                machine.topology, machine.caps, machine.accelerator.name, machine.files, run
            )
            inherit = (monitor_end.fileno(), agent_end.fileno())
            log, jail = folder / "qemu.log", machine.jail(folder)
            qemu = Qemu.launch(command, log, inherit, jail=jail, keepable=keepable)
        channel = Channel(agent, name, architecture=machine.caps.architecture)
        guest = cls(name, machine, folder, qemu, channel, monitor, agent)
        guest.channel.error_context, guest.channel.log = guest.error_context, guest.console
        guest.channel.kind_of_loss, guest.channel.stall = qemu.kind_of_loss, guest.stall
        return guest

    @classmethod
    def start(cls, name: str, machine: BootSpec, folder: Path, *, keepable: bool = False) -> Guest:
        """Return a guest that is awake: a clone if `machine` has a template's state, else booted.

        Args:
            name: the guest's name, unique in the run; it also names its evidence.
            machine: what to start: the hardware, and the files of kernel, image or template.
            folder: where console, logs and transcript go; made if it is missing.
            keepable: whether the guest may outlive this process, see `keep`.

        Raises:
            LaunchError: QEMU cannot be executed.
            BootError: its agent did not answer; carries the console's tail and what QEMU said.
        """
        guest = cls.launch(name, machine, folder, keepable=keepable)
        guest.wake()
        return guest

    def wake(self) -> None:
        """Wait until a launched guest has booted, or is a clone of its template.

        Raises:
            BootError: its agent did not answer; carries the console's tail and what QEMU said.
            WrongClock: it has booted, and its clock is far ahead of the host's.
        """
        slowness, began = self.machine.kernel.slowness, time.monotonic()
        with self._delivery("clone" if self.machine.frozen else "boot"):
            if self.machine.frozen:
                self._load(Deadline.after(WAKE_TIMEOUT_S))
            else:
                self.channel.await_ready(Deadline.after(BOOT_TIMEOUT_S * slowness))
            self.renew(Deadline.after(WAKE_TIMEOUT_S * slowness))
        if not self.machine.frozen and self.awake is not None:
            try:
                verify_clock(self.name, self.awake.log_us / 1e6, time.monotonic() - began)
            except WrongClock:
                self.close()
                raise

    @cached_property
    def qmp(self) -> Qmp:
        """QEMU's monitor, connected on first use."""
        monitor = Qmp(self.monitor, self.name, self.folder / "qmp.jsonl", self.error_context)
        monitor.kind_of_loss, monitor.stall = self.qemu.kind_of_loss, self.stall
        return monitor

    @cached_property
    def ssh(self) -> Ssh:
        """An SSH connection into the guest, opened on first use."""
        return Ssh(self.login, Deadline.after(SSH_TIMEOUT_S))

    @cached_property
    def debugger(self) -> Debugger:
        """Breakpoints in the guest's kernel, for tasks that are to be held; made on first use."""
        return Debugger(self, lambda: connected_to_gdbstub(self.folder, self.listen_for_gdb))

    def held(self, user: User | None, function: str) -> AbstractContextManager[Hold]:
        """Hold a user's task when it enters a kernel function, until the block ends.

        Args:
            user: whose task; None holds the first task that comes, such as a kernel thread.
            function: the function's name; it must be one that may sleep.

        Raises:
            UsageError: the kernel has no such function, or several.
        """
        return self.debugger.held(user, function)

    def agent_over_ssh(self) -> Channel:
        """Start a second agent behind SSH and return its channel: the same protocol.

        Raises:
            SshError: sshd refuses the connection.
        """
        deadline = Deadline.after(SSH_TIMEOUT_S)
        carrier = self.ssh.carrier("sh", "-c", AGENT_BY_HAND, deadline=deadline)
        channel = Channel(
            carrier, f"{self.name} over SSH", architecture=self.machine.caps.architecture
        )
        channel.await_ready(deadline)
        return channel

    @cached_property
    def login(self) -> Login:
        """Where this guest's sshd listens: a port of the host's loopback, or of its jail's."""
        port = self.qmp.forwarded_port(deadline=Deadline.after(CALL_TIMEOUT_S))
        return Login(
            LOOPBACK,
            port,
            key=self.machine.keys / "user",
            host_key=self.machine.keys / "host.pub",
            relay=relay(self.qemu.process.pid, LOOPBACK, port) if self.qemu.jailed else (),
        )

    def wait_boot_complete(self, deadline: Deadline) -> None:
        """Wait until the last step of the boot, the start of sshd, is done."""
        wait_until("the end of boot", lambda: self.root.exists(SETTLED), deadline)

    def error_context(self) -> dict[str, Any]:
        """Return the fields of an error about this guest, as they are now."""
        self.qemu.await_end(Deadline.after(ENDING_TIMEOUT_S))
        seen = self.qemu.how_it_ended()
        if (headline := console.last_words(self.console)) is not None:
            seen = f"{headline} ({seen})"
        return {"seen": seen, "tail": console.tail(self.console), "where": self.console}

    def stall(self, what: str) -> LabError | None:
        """Return the error for a QEMU that no longer makes progress, None if it does.

        Args:
            what: the first line of the error.
        """
        if not self.progress.stalled():
            return None
        stopped = self.progress.stopped
        how = "a signal or a debugger has stopped it" if stopped else "its vCPUs are halted"
        return (GuestStopped if stopped else DeadlineExceeded)(
            what,
            guest=self.name,
            expected="QEMU to run now and then, as that of an idle guest does",
            seen=f"QEMU had no CPU time for {stalled_s():.0f} s and wanted none: {how}",
            tail=console.tail(self.console),
            where=self.console,
        )

    @cached_property
    def progress(self) -> Progress:
        """The progress of QEMU's process."""
        return Progress(self.qemu.process.pid)

    def survey(self, seen: Snapshot) -> dict[str, str]:
        """Return what the kernel shows of itself in sysfs, in /proc and in /dev.

        Args:
            seen: what is bound where.

        Raises:
            LabError: it does not answer.
        """
        surveyor = start_user(self.channel, "surveyor")
        users = {user.pid: user.name for user in self.users}
        found = survey(self.channel, surveyor, seen.functions, users)
        state = self.machine.files.state
        if state is not None and (log := state.with_name(BOOT_LOG)).exists():
            found["the kernel log at boot"] = log.read_text()
        return found

    def lock_waits(self) -> list[LockWait]:
        """Return which users wait for which locks, as far as the debugger has watched them."""
        return self.debugger.lock_waits() if "debugger" in self.__dict__ else []

    def listen_for_gdb(self, name: str) -> None:
        """Let QEMU's gdbstub listen on a socket in the guest's folder, until somebody connects."""
        command = f"gdbserver unix:{name},server=on,wait=off"
        deadline = Deadline.after(CALL_TIMEOUT_S)
        self.qmp.execute("human-monitor-command", deadline=deadline, command_line=command)

    def backtrace(self) -> str:
        """Return where QEMU crashed, as far as its core dump shows."""
        return backtrace(self.machine.caps.binary, self.folder)

    def close(self) -> None:
        """Throw the guest away, or leave it running if it is kept; idempotent."""
        if "debugger" in self.__dict__:
            self.debugger.close()
        if "ssh" in self.__dict__:
            self.ssh.close()
        if "qmp" in self.__dict__:
            self.qmp.close()
        if not self.kept:
            self.qemu.kill()
        self.channel.close()
        self.monitor.close()

    def keep(self) -> str:
        """Let a keepable guest outlive this process; return how to log in and how to end it.

        Raises:
            GuestLost: QEMU has ended already.
        """
        inside = shlex.join(self.login.command())
        self.qemu.keep(self.agent.fileno(), self.monitor.fileno())
        self.kept = True
        return f"to get in:  {inside}\nto end it:  kill {self.qemu.process.pid}"

    def paste(self) -> str:
        """Return a command line that boots the same machine at a person's terminal."""
        files = self.machine.files.without_state()
        by_hand = RunFiles(self.folder, self.name, interactive=True)
        command = argv(
            self.machine.topology, self.machine.caps, self.machine.accelerator.name, files, by_hand
        )
        return shlex.join(command)

    def _load(self, deadline: Deadline) -> None:
        """Load the template's state; the guest then runs by itself."""
        ignore_shared = [{"capability": "x-ignore-shared", "state": True}]
        self.qmp.execute("migrate-set-capabilities", deadline=deadline, capabilities=ignore_shared)
        uri = f"file:{self.machine.files.state}"
        self.qmp.execute("migrate-incoming", deadline=deadline, uri=uri)

    def renew(self, deadline: Deadline) -> None:
        """Make the guest differ from its siblings: clock and random state."""
        answer = self.channel.call(
            ROUTER,
            "wake",
            "wake the agent",
            deadline=deadline,
            now_ns=time.time_ns(),
            seed=secrets.token_bytes(SEED_BYTES).hex(),
        )
        # The guest's clock is set to the time of the request, so it is late by the time that the
        # request took; the answer adds the time that it took itself.
        self.awake = ClockAnchor((answer["now_ns"] / 1e9 + answer["ended"]) / 2, answer["log_us"])

    @contextlib.contextmanager
    def _delivery(self, how: str) -> Iterator[None]:
        """Throw the guest away if it does not become ready, and raise an error that says why."""
        try:
            yield
        except (GuestKilled, GuestStopped, QemuCrashed):
            self.close()
            raise
        except LabError as error:
            self.close()
            raise BootError(
                f"the {how} of {self.name} never became ready",
                guest=f"{self.machine.topology.name} on kernel {self.machine.kernel.name}",
                expected="an answer from the agent",
                seen=error.seen or error.what,
                tail=error.tail,
                where=self.folder,
            ) from error
        except BaseException:
            self.close()
            raise
