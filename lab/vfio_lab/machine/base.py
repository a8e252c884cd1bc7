"""Test machines: a guest or a remote machine, with its agent and the users behind it."""

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
from vfio_lab.machine.locks import LockWait, deadlock
from vfio_lab.machine.state import Snapshot, snapshot
from vfio_lab.qemu.console import readable
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.vfio import VfioUser

CALL_TIMEOUT_S = 20.0
PCI_FUNCTIONS = "/sys/bus/pci/devices"
# Of kernels after 7.3: set when a driver is bound or unbound by hand, which the lab does itself
# before most scenarios. The number is the first that 7.3 does not use.
TAINT_FORCED_BIND = 20
TAINTS_OF_THE_LAB = frozenset({TAINT_FORCED_BIND})


@dataclass(frozen=True)
class ClockAnchor:
    """The moment at which the guest woke, on the host's clock and on the guest's.

    Args:
        at: on the host's clock, in seconds since the epoch.
        log_us: on the clock of the guest's kernel log, in microseconds.
    """

    at: float
    log_us: int


class Hardware(Protocol):
    """The hardware and the kernel that a test machine is expected to have."""

    @property
    def topology(self) -> Topology:
        """The hardware."""

    @property
    def kernel(self) -> Kernel:
        """The kernel that it runs."""


class TestMachine:
    """A machine that a scenario acts on: a guest or a remote machine.

    Args:
        name: unique in the run, also its evidence folder's.
        machine: its hardware.
        folder: where console, logs and transcript go.
        channel: the agent.
        transcript: every call of every user.
        users: the users, in the order in which they were started.
        awake: when the scenario got the machine.
    """

    __test__ = False  # pytest would collect it as a test class where a test imports it

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

    def forget_users(self) -> None:
        """Forget all users: the kernel that they were processes of is gone."""
        self.users.clear()
        self.__dict__.pop("root", None)

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
        """Wait until a call returns or waits for a lock in D state; return whether it waits."""
        status = f"/proc/{call.user.pid}/status"
        wait_until(
            f"{call.user.name} to return or to be stuck",
            lambda: call.returned or "State:\tD" in self.root.read_file(status),
            Deadline.after(CALL_TIMEOUT_S),
        )
        return not call.returned

    def is_inside(self, call: PendingCall, function: str) -> bool:
        """Wait until a call returns or is in a function of the kernel; say if it is there.

        Args:
            call: the call.
            function: the function's name, as in /proc/PID/stack; it may sleep in any way.
        """
        stack = f"/proc/{call.user.pid}/stack"
        wait_until(
            f"{call.user.name} to return or to be in {function}()",
            lambda: call.returned or f" {function}+" in self.root.read_file(stack),
            Deadline.after(CALL_TIMEOUT_S),
        )
        return not call.returned

    def taints(self, *, ours: bool = False) -> frozenset[int]:
        """Return the bits set in the kernel's taint mask.

        Args:
            ours: whether to include what the lab's own moves set.
        """
        mask = int(self.root.read_file("/proc/sys/kernel/tainted"))
        bits = frozenset(bit for bit in range(mask.bit_length()) if mask >> bit & 1)
        return bits if ours else bits - TAINTS_OF_THE_LAB

    def snapshot(self) -> Snapshot:
        """Return which driver each device is bound to, and which user holds which descriptor."""
        names = {user.pid: user.name for user in self.users}
        about = "look at devices and descriptors"
        answer = self.ask("snapshot", about, folder=PCI_FUNCTIONS)
        return snapshot(answer, names, self.transcript)

    def survey(self, seen: Snapshot) -> dict[str, str]:
        """Return what the kernel shows of itself; nothing where that is not ours to look at.

        Args:
            seen: what is bound where.
        """
        del seen
        return {}

    def function(self, role: str) -> PciFunction:
        """Return the PCI function that plays a role in the topology, such as `pf0`."""
        return PciFunction(self.machine.topology.function(role).bdf, self.root)

    def load(self, module: str, *options: str) -> None:
        """Load a kernel module.

        Raises:
            AgentError: modprobe failed; the error has its message.
        """
        self._modprobe(module, *options)

    def unload(self, module: str) -> None:
        """Unload a kernel module and the modules that only it needs.

        Raises:
            AgentError: modprobe failed; the error has its message.
        """
        self._modprobe("--remove", module)

    def _modprobe(self, *words: str) -> None:
        done = self.root.run("modprobe", *words)
        if done.exit:
            what = f"modprobe {' '.join(words)} failed"
            seen = f"exit code {done.exit}"
            raise AgentError(what, guest=self.name, seen=seen, tail=done.stderr, where=self.console)

    def ask(self, op: str, about: str, **args: object) -> dict[str, Any]:
        """Send a request to the agent's router instead of a user.

        Args:
            op: the agent's operation.
            about: the request in words, for errors.
            args: the operation's arguments.
        """
        deadline = Deadline.after(CALL_TIMEOUT_S)
        return self.channel.call(ROUTER, op, about, deadline=deadline, **args)

    @property
    def console(self) -> Path:
        """The file with the console's output, if the machine has one."""
        return self.folder / "console.log"

    def lock_waits(self) -> list[LockWait]:
        """Return which users wait for which locks; nothing where nobody has watched them."""
        return []

    def deadlocked(self, *calls: PendingCall) -> list[str]:
        """Wait until a call returns or users wait for each other's locks; return these, sorted.

        Args:
            calls: calls of which one returns if there is no deadlock.
        """
        cycle: list[LockWait] = []

        def settled() -> bool:
            cycle[:] = deadlock(self.lock_waits())
            return bool(cycle) or any(call.returned for call in calls)

        wait_until("a deadlock, or a call to return", settled, Deadline.after(CALL_TIMEOUT_S))
        return sorted(wait.waiter for wait in cycle)

    def paste(self) -> str:
        """Return a command line that gives a person such a machine."""
        raise NotImplementedError

    def keep(self) -> str:
        """Let the machine outlive this process; return how to log in and how to end it."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the machine back or throw it away; idempotent."""
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
        record: is called with each of the user's calls.
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
