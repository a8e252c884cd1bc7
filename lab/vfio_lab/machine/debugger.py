"""Hold a task at the entry of a kernel function while others go on, and see who waits for whom.

Of the ways to stop one task in the kernel, QEMU's gdbstub is the one that works on every kernel
that the lab boots: kprobes, ftrace and live patches need options that the lab's kernels do not set,
and the debugger's own scheduler lock would stop a vCPU, which others wait for with interrupts off.
So a breakpoint sends the task to sleep: it is made to call `msleep()` with the entry of the
function as the return address, and arrives there again, until it is let go with its own registers.
The task sleeps like any other, and no vCPU stands still.

A task is known by its stack in the kernel. A user reads its own status to be known, because the
kernel passes the task there.

Source: kernel/time/sleep_timeout.c, msleep(); kernel/locking/mutex.c, __mutex_lock_slowpath();
kernel/locking/rwsem.c, rwsem_down_write_slowpath(); fs/kernfs/dir.c, kernfs_drain();
fs/proc/array.c, proc_pid_status().
"""

from __future__ import annotations

import contextlib
import queue
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from vfio_lab.client.user import User
from vfio_lab.errors import DeadlineExceeded, LabError, UsageError
from vfio_lab.machine.base import TestMachine, start_user
from vfio_lab.machine.locks import FILE, LockWait
from vfio_lab.qemu.gdbstub import Gdbstub, Halt, Registers
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.host_time import LOOK_EVERY_S

# The size of a stack, to which it is aligned. KASAN doubles it; calls enter in the upper half.
STACK_BYTES = 16 << 10
NAP_MS = 20
SOCKET = "debugger"
SLEEP = "msleep"
STATUS = "proc_pid_status"
REACHED_TIMEOUT_S = 20.0
TASK = 3  # the argument of proc_pid_status() that is the task
OWNER_FLAGS = 0x7
# Functions in which a task waits for a lock whose address is their first argument, and where in
# the lock its owner stands. Absent ones are inlined, or the kernel has lockdep instead. Who removes
# a file of sysfs waits until nobody is in it.
LOCKS = {
    "__mutex_lock_slowpath": ("mutex", 0),
    "__mutex_lock_killable_slowpath": ("mutex", 0),
    "__mutex_lock_interruptible_slowpath": ("mutex", 0),
    "rwsem_down_write_slowpath": ("rwsem", 8),
    "rwsem_down_read_slowpath": ("rwsem", 8),
    "kernfs_drain": (FILE, 0),
}


def connected_to_gdbstub(folder: Path, listen: Callable[[str], None]) -> socket.socket:
    """Return a connection to the gdbstub of a QEMU.

    Args:
        folder: the folder that QEMU runs in.
        listen: lets the gdbstub listen on a socket of this name there.
    """
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as short:  # a path must be short
        path = Path(short) / SOCKET
        path.symlink_to(folder.resolve() / SOCKET)
        listen(SOCKET)
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(path))
    (folder / SOCKET).unlink()
    return connected


@dataclass
class Hold:
    """A task that is to be held at the entry of a function, is held there, or was.

    Args:
        user: who it is; None takes the first task that comes.
        function: where it is held.
        address: the function's entry.
        mark: the stack by which the user is known.
        registers: its registers at the entry, None before it arrives there.
    """

    user: User | None
    function: str
    address: int
    mark: int | None
    registers: Registers | None = None
    released: bool = False
    arrived: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout_s: float = REACHED_TIMEOUT_S) -> None:
        """Wait until the task is held.

        Raises:
            DeadlineExceeded: it does not come.
        """
        deadline = Deadline.after(timeout_s)
        while not self.arrived.wait(deadline.slice_s):
            if deadline.passed:
                who = self.user.name if self.user else "a task"
                raise DeadlineExceeded(
                    f"{who} never entered {self.function}()",
                    expected=f"it within {deadline.told}",
                    seen="it has not been there since it was to be held",
                    hint="the call may take another path; stacks.txt has where it is now",
                )


class Debugger:
    """Breakpoints in a guest, served by a thread of their own.

    Args:
        guest: the guest.
        connect: connects to its gdbstub.
    """

    def __init__(self, guest: TestMachine, connect: Callable[[], socket.socket]) -> None:
        self.guest = guest
        self.error: Exception | None = None
        self._helper = start_user(guest.channel, "debugger")
        self._symbols = self._addresses([SLEEP, STATUS, *LOCKS])
        self._slow = {self._symbols[name]: name for name in LOCKS if name in self._symbols}
        self._holds: list[Hold] = []
        self._marks: dict[int, User] = {}
        self._tasks: dict[int, str] = {}
        self._wanted: dict[int, tuple[str, int]] = {}
        self._looked_at: User | None = None
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._closing = False
        self._stub = Gdbstub(connect(), guest.name, guest.channel.architecture)
        self._inserted: set[int] = set()
        self._insert(*self._slow)
        self._thread = threading.Thread(target=self._serve, name="debugger", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def held(self, user: User | None, function: str) -> Iterator[Hold]:
        """Hold a user's task when it enters a kernel function, until the block ends.

        The function must be one that may sleep.

        Args:
            user: whose task; None holds the first task that comes, such as a kernel thread.
            function: the function's name.

        Raises:
            UsageError: the kernel has no such function, or several.
        """
        address = self._address(function)
        for each in self.guest.users:
            if each.latest is None or each.latest.ended is not None:
                self.mark(each)  # to tell who waits for whom
        hold = Hold(user, function, address, self.mark(user) if user else None)
        self._while_stopped(lambda: self._arm(hold))
        try:
            yield hold
        finally:
            self._while_stopped(lambda: self._release(hold))
            hold.gone.wait(REACHED_TIMEOUT_S)

    def mark(self, user: User) -> int:
        """Make a user known to the debugger; return the stack by which it is."""
        for mark, known in self._marks.items():
            if known.pid == user.pid:
                return mark
        self._looked_at = user
        self._while_stopped(lambda: self._insert(self._symbols[STATUS]))
        replace(user, record=lambda _entry: None).read_file("/proc/self/status")
        return next(mark for mark, known in self._marks.items() if known is user)

    def lock_waits(self) -> list[LockWait]:
        """Return which users that the debugger knows wait for which locks now."""
        found: list[LockWait] = []
        self._while_stopped(lambda: found.extend(self._lock_waits()))
        return found

    def close(self) -> None:
        """Detach; idempotent."""
        if not self._closing:
            self._closing = True
            self._wake.send(b"x")
            self._thread.join()
            self._stub.close()
            self._wake.close()
            self._woken.close()

    def _address(self, function: str) -> int:
        found = self._addresses([function])
        if function not in found:
            raise UsageError(
                f"no task can be held in {function}()",
                guest=self.guest.name,
                expected="one function of this name in /proc/kallsyms",
                seen="none or several",
                hint="the compiler may have inlined it: name a function that it calls",
            )
        return found[function]

    def _addresses(self, names: Iterable[str]) -> dict[str, int]:
        """Return the addresses of functions of whose names there is one."""
        words = [word for name in names for word in ("-e", name)]
        lines = self._helper.run("grep", "-wF", *words, "/proc/kallsyms").stdout.splitlines()
        found: dict[str, list[int]] = {}
        for address, kind, name, *_ in map(str.split, lines):
            if kind in "tT" and not name.endswith(".cold"):
                found.setdefault(name.partition(".")[0], []).append(int(address, 16))
        return {name: places[0] for name, places in found.items() if len(places) == 1}

    def _while_stopped(self, action: Callable[[], None]) -> None:
        """Do something while the guest stands still, in the thread that serves it.

        Raises:
            LabError: that thread has failed.
        """
        done = threading.Event()
        self._requests.put(action)
        self._requests.put(done.set)
        self._wake.send(b"x")
        while not done.wait(LOOK_EVERY_S):
            if not self._thread.is_alive():
                raise self.error or LabError(
                    "the debugger has ended", guest=self.guest.name, seen="its thread is gone"
                )

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._stub.resume()
                stop = self._stub.await_stop(self._woken)
                if stop is None:
                    self._woken.recv(1)
                    self._stub.interrupt()
                    stop = self._stub.await_stop()
                if stop is not None and not stop.asked:
                    self._at_breakpoint(stop)
                while not self._requests.empty():
                    self._requests.get()()
        except (LabError, OSError, ValueError) as error:
            self.error = error

    def _at_breakpoint(self, stop: Halt) -> None:
        seen = self._stub.registers(stop.vcpu)
        address, mark = seen.counter, _mark(seen)
        if address in self._slow and mark in self._marks:
            self._wanted[mark] = self._slow[address], seen.argument(0)
            self._insert(self._stub.caller(seen))  # where it has the lock
        elif address == self._symbols[STATUS] and self._looked_at is not None:
            self._marks[mark] = self._looked_at
            self._tasks[seen.argument(TASK)] = self._looked_at.name
            self._looked_at = None
            self._remove(address)
        elif address not in self._slow:
            self._wanted.pop(mark, None)
        moved = [self._hold(hold, seen) for hold in self._holds if hold.address == address]
        if not any(moved) and address in self._inserted:
            self._step_over(stop.vcpu, address)

    def _hold(self, hold: Hold, seen: Registers) -> bool:
        """Send a task to sleep or let it go; return whether it is now elsewhere."""
        if hold.registers is None:
            if hold.released or hold.mark not in (None, _mark(seen)):
                return False
            hold.registers = seen
        elif seen.stack != hold.registers.stack:
            return False
        elif hold.released:
            self._stub.restore(hold.registers)
            self._forget(hold)
            return False
        self._stub.call(seen, self._symbols[SLEEP], NAP_MS)
        hold.arrived.set()
        return True

    def _arm(self, hold: Hold) -> None:
        self._holds.append(hold)
        self._insert(hold.address)

    def _release(self, hold: Hold) -> None:
        hold.released = True
        if hold.registers is None:
            self._forget(hold)

    def _forget(self, hold: Hold) -> None:
        self._holds = [one for one in self._holds if one is not hold]
        if hold.address not in {*self._slow, *(one.address for one in self._holds)}:
            self._remove(hold.address)
        hold.gone.set()

    def _lock_waits(self) -> Iterator[LockWait]:
        for mark, (function, lock) in self._wanted.items():
            kind, offset = LOCKS[function]
            waiter = self._marks[mark].name
            if kind == FILE:
                yield LockWait(waiter, lock, kind, self._writer(waiter))
            else:
                owner = self._stub.word(lock + offset) & ~OWNER_FLAGS
                yield LockWait(waiter, lock, kind, self._tasks.get(owner))

    def _writer(self, waiter: str) -> str | None:
        """Return the only other user who is in a write to a file, None if there are several."""
        writing = [
            user.name
            for user in self._marks.values()
            if user.name != waiter
            and user.latest is not None
            and user.latest.ended is None
            and user.latest.call == "write_file"
        ]
        return writing[0] if len(writing) == 1 else None

    def _step_over(self, vcpu: str, address: int) -> None:
        self._remove(address)
        self._stub.step(vcpu)
        self._insert(address)

    def _insert(self, *addresses: int) -> None:
        for address in {*addresses} - self._inserted:
            self._stub.insert(address)
            self._inserted.add(address)

    def _remove(self, address: int) -> None:
        self._stub.remove(address)
        self._inserted.discard(address)


def _mark(seen: Registers) -> int:
    return seen.stack & ~(STACK_BYTES - 1)
