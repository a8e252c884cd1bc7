"""Machines under test: whatever has an agent, and the users behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from vfio_lab.client.channel import ROUTER, Channel
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.client.transcript import Entry
from vfio_lab.client.user import PendingCall
from vfio_lab.errors import AgentError
from vfio_lab.hw.topology import Topology
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.state import Snapshot, snapshot
from vfio_lab.qemu.console import readable
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.vfio import VfioUser

CALL_TIMEOUT_S = 20.0
PCI_FUNCTIONS = "/sys/bus/pci/devices"


@dataclass(frozen=True)
class ClockAnchor:
    """One moment on two clocks: when the guest woke.

    Args:
        at: the host's, seconds since the epoch.
        log_us: the stamp that the guest's kernel log had then, in microseconds.
    """

    at: float
    log_us: int


class Hardware(Protocol):
    """What a machine under test is said to be."""

    @property
    def topology(self) -> Topology:
        """Its hardware."""

    @property
    def kernel(self) -> Kernel:
        """What it runs."""


class TestMachine:
    """A machine under test, be it a guest of ours or a real one.

    Args:
        name: unique in the run, also its evidence folder's.
        machine: its hardware.
        folder: where console, logs and transcript go.
        channel: the agent.
        transcript: every call of every user.
        users: in the order they were started.
        awake: when it became the scenario's.
    """

    __test__ = False  # where a test imports it, pytest would look for tests in it

    name: str
    machine: Hardware
    folder: Path
    channel: Channel
    transcript: list[Entry]
    users: list[VfioUser]
    awake: ClockAnchor | None
    _log: list[str]

    def __repr__(self) -> str:
        """Return `Guest(NAME: igb on kernel 7.3)`."""
        topology, kernel = self.machine.topology.name, self.machine.kernel.name
        return f"{type(self).__name__}({self.name}: {topology} on kernel {kernel})"

    def user(self, name: str, *, uid: int = 0, drop: Sequence[int] = ()) -> VfioUser:
        """Start a user: a fresh process in the machine.

        Args:
            name: what transcripts call it.
            uid: its user and group id.
            drop: capabilities it gives up, by number.
        """
        user = start_user(self.channel, name, uid, drop, self.transcript.append)
        self.users.append(user)
        return user

    @cached_property
    def root(self) -> VfioUser:
        """The machine's administrator: binds drivers, writes sysfs, holds no device."""
        return self.user("root")

    def kernel_log(self) -> list[str]:
        """Return the kernel log's records since the machine woke, in /dev/kmsg form."""
        self._log += self.ask("kernel_log", "read the kernel log")["records"]
        return list(self._log)

    def dmesg(self, text: str, *, level: str = "") -> list[str]:
        """Return the readable kernel log lines since the machine woke that contain `text`.

        Args:
            text: part of the line.
            level: the line's level by its kernel name (`warn`, `info`), if it matters.
        """
        lines = [readable(record) for record in self.kernel_log()]
        return [line for line in lines if text in line and f"] {level}" in line]

    def wait_dmesg(self, text: str, *, level: str = "") -> list[str]:
        """Wait for the kernel to log a line, as `dmesg` finds it, and return all that match."""
        deadline = Deadline.after(CALL_TIMEOUT_S)
        return wait_until(f"the log line {text!r}", lambda: self.dmesg(text, level=level), deadline)

    def is_blocked(self, call: PendingCall) -> bool:
        """Wait until a call returns or sleeps as those who want a lock do; say if it sleeps."""
        status = f"/proc/{call.user.pid}/status"
        wait_until(
            f"{call.user.name} to return or to be stuck",
            lambda: call.returned or "State:\tD" in self.root.read_file(status),
            Deadline.after(CALL_TIMEOUT_S),
        )
        return not call.returned

    def taints(self) -> frozenset[int]:
        """Return the bits set in the kernel's taint mask."""
        mask = int(self.root.read_file("/proc/sys/kernel/tainted"))
        return frozenset(bit for bit in range(mask.bit_length()) if mask >> bit & 1)

    def snapshot(self) -> Snapshot:
        """Return what is bound where, and who holds which descriptor."""
        names = {user.pid: user.name for user in self.users}
        about = "look at devices and descriptors"
        answer = self.ask("snapshot", about, folder=PCI_FUNCTIONS)
        return snapshot(answer, names, self.transcript)

    def function(self, role: str) -> PciFunction:
        """Return the PCI function that plays a role in the topology, such as `pf0`."""
        return PciFunction(self.machine.topology.function(role).bdf, self.root)

    def load(self, module: str, *options: str) -> None:
        """Load a kernel module.

        Raises:
            AgentError: modprobe failed; carries what it said.
        """
        self._modprobe(module, *options)

    def unload(self, module: str) -> None:
        """Unload a kernel module and those that only it needed.

        Raises:
            AgentError: modprobe failed; carries what it said.
        """
        self._modprobe("--remove", module)

    def _modprobe(self, *words: str) -> None:
        done = self.root.run("modprobe", *words)
        if done.exit:
            what = f"modprobe {' '.join(words)} failed"
            seen = f"exit code {done.exit}"
            raise AgentError(what, guest=self.name, seen=seen, tail=done.stderr, where=self.console)

    def ask(self, op: str, about: str, **args: object) -> dict[str, Any]:
        """Ask the agent's router, not a user.

        Args:
            op: the agent's operation.
            about: the request in words, for errors.
            args: the operation's arguments.
        """
        deadline = Deadline.after(CALL_TIMEOUT_S)
        return self.channel.call(ROUTER, op, about, deadline=deadline, **args)

    @property
    def console(self) -> Path:
        """The file with what its console said, if there is one."""
        return self.folder / "console.log"

    def paste(self) -> str:
        """Return a command line that brings a person to such a machine."""
        raise NotImplementedError

    def keep(self) -> str:
        """Have it outlive this process; return how to get in and end it."""
        raise NotImplementedError

    def close(self) -> None:
        """End the scenario's time with it; idempotent."""
        raise NotImplementedError


def start_user(
    channel: Channel,
    name: str,
    uid: int = 0,
    drop: Sequence[int] = (),
    record: Callable[[Entry], None] = lambda _entry: None,
) -> VfioUser:
    """Start a user behind any agent.

    Args:
        channel: the agent.
        name: what transcripts call the user.
        uid: its user and group id.
        drop: capabilities it gives up, by number.
        record: gets each of its calls.
    """
    deadline = Deadline.after(CALL_TIMEOUT_S)
    identity = {"name": name, "uid": uid, "drop": list(drop)}
    began = time.time()
    answer = channel.call(ROUTER, "spawn", f"start {name}", deadline=deadline, **identity)
    if uid or drop:
        words = f"uid {uid}, without capabilities {list(drop)}"
        entry = Entry(began, None, name, "become", words, pid=answer["value"])
        entry.options = {"uid": uid, "drop": list(drop)}
        entry.settle(answer)
        record(entry)
    return VfioUser(channel, answer["value"], name, record)
