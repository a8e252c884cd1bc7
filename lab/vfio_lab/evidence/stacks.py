"""Processes that are in the kernel when a scenario ends: state, stack and open files.

Source: fs/proc/base.c, proc_pid_stack(), proc_pid_wchan(); fs/proc/array.c, do_task_stat().
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vfio_lab.client.call import Refusal
from vfio_lab.client.transcript import Entry
from vfio_lab.client.user import User
from vfio_lab.evidence.calls import arguments
from vfio_lab.machine.base import TestMachine, start_user
from vfio_lab.machine.locks import LockWait, deadlock
from vfio_lab.machine.state import OpenFile

STATES = {"D": "uninterruptible sleep", "R": "running", "S": "sleep", "T": "stopped", "Z": "zombie"}
UNINTERRUPTIBLE = "D"


@dataclass(frozen=True)
class KernelTask:
    """A process of the test machine.

    Args:
        pid: its pid.
        name: the name of its command.
        state: its state as a letter, see ps(1).
        parent: the pid of its parent.
    """

    pid: int
    name: str
    state: str
    parent: int


def unfinished_calls(entries: Iterable[Entry]) -> list[Entry]:
    """Return the calls that have not returned, and the kills whose user has not ended."""
    return [
        entry
        for entry in entries
        if entry.pending is not None
        and entry.pid not in entry.pending.channel.ended
        and (entry.ended is None or entry.call == "kill")
    ]


def kernel_stacks(guest: TestMachine, held: Sequence[OpenFile]) -> str:
    """Return the stacks of users in a call and of all other tasks in uninterruptible sleep.

    Args:
        guest: the machine.
        held: the open files of its users.

    Raises:
        LabError: the machine no longer answers.
    """
    waiting = {entry.pid: entry for entry in unfinished_calls(guest.transcript)}
    if not waiting:
        return ""
    observer = start_user(guest.channel, "observer")  # `root` itself may sleep
    tasks = {task.pid: task for task in _tasks(observer)}
    waits = {wait.waiter: wait for wait in guest.lock_waits()}
    told = [
        _told(observer, task, waiting.get(task.pid), held, waits)
        for task in tasks.values()
        if task.state == UNINTERRUPTIBLE or _started_by(task, waiting, tasks)
    ]
    return "\n".join([*_cycle(waits.values()), *told])


def _cycle(waits: Iterable[LockWait]) -> list[str]:
    """Return a deadlock in words, if there is one."""
    cycle = deadlock(waits)
    return ["deadlock:", *(f"  {wait.waiter} {wait}" for wait in cycle), ""] if cycle else []


def _tasks(observer: User) -> Iterator[KernelTask]:
    for pid in filter(str.isdecimal, observer.listdir("/proc")):
        line = _read(observer, f"/proc/{pid}/stat")
        head, _, rest = line.rpartition(") ")
        if rest:
            state, parent, *_ = rest.split()
            yield KernelTask(int(pid), head.partition("(")[2], state, int(parent))


def _started_by(
    task: KernelTask, users: Mapping[int, Entry], tasks: Mapping[int, KernelTask]
) -> bool:
    """Return whether a task is one of the users or a descendant of one."""
    seen: KernelTask | None = task
    while seen is not None and seen.pid not in users:
        seen = tasks.get(seen.parent)
    return seen is not None


def _told(
    observer: User,
    task: KernelTask,
    entry: Entry | None,
    held: Sequence[OpenFile],
    waits: Mapping[str, LockWait],
) -> str:
    who = f"{entry.user if entry else task.name} (pid {task.pid})"
    lines = [f"{who}: {task.state} ({STATES.get(task.state, 'see ps(1)')})"]
    if entry is not None:
        for_s = time.time() - entry.began
        lines.append(f"  called {entry.call}({arguments(entry)}), {for_s:.3f} s ago")
        lines += [f"  holds {one.fd}: {one.what}" for one in held if one.user == entry.user]
        lines += [f"  {waits[entry.user]}"] if entry.user in waits else []
    wchan = _read(observer, f"/proc/{task.pid}/wchan").strip("0")
    lines += [f"  waits in {wchan}"] if wchan else []
    stack = _read(observer, f"/proc/{task.pid}/stack").splitlines()
    lines += [f"    {line.removeprefix('[<0>] ')}" for line in stack]
    return "\n".join(lines) + "\n"


def _read(observer: User, path: str) -> str:
    """Return a file's content, empty if the task is gone or the read is refused."""
    with contextlib.suppress(Refusal):
        return observer.read_file(path)
    return ""
