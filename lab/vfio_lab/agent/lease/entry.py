"""The lease's program: lets an agent use one device, and puts the device back afterwards.

It is the agent's parent and does nothing but wait, so it survives whatever ends the agent: a
connection that closes, a crash, a signal. Users that the agent leaves behind are killed first.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

from . import facts
from .state import State

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_S = 20.0
REFUSED, UNRESTORED, UNPREPARED = 3, 4, 5
DEAF_TO = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
libc = ctypes.CDLL(None, use_errno=True)


def main(bdf: str, mode: str, program: bytes) -> int:
    """Print the machine's facts (`look`), or let the agent use the device until its stream closes.

    Args:
        bdf: the device.
        mode: `look` or `lend`.
        program: the agent.
    """
    if mode == "look":
        sys.stdout.write(json.dumps(facts.look(bdf)))
        return 0
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    with exclusive(bdf) as mine:
        against = facts.objections(bdf) if mine else ["another run of the lab uses it"]
        if against:
            return tell(REFUSED, against)
        return lend(State(bdf), program)


def lend(state: State, program: bytes) -> int:
    """Let an agent use the device, wait for the agent's end and restore everything."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        state.prepare()
    except OSError as error:
        state.restore()
        return tell(UNPREPARED, [f"vfio cannot be loaded: {error}"])
    agent = os.fork()
    if agent == 0:
        serve(program)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.waitpid(agent, 0)
    left = bury_all(time.monotonic() + PATIENCE_S)
    problems = [f"process {pid} does not end" for pid in left] + state.restore()
    return tell(UNRESTORED, problems) if problems else 0


def serve(program: bytes) -> NoReturn:
    """Execute the agent from memory; never return."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        memory = os.memfd_create("vfio-lab-agent")
        with open(memory, "wb", closefd=False) as file:
            file.write(program)
        os.execve(memory, ["vfio-lab-agent", "--stdio"], os.environ)
    except OSError as error:
        tell(UNPREPARED, [f"the agent cannot be run: {error}"])
    finally:
        os._exit(UNPREPARED)


def bury_all(until: float) -> list[int]:
    """Kill every process that the agent left behind and wait; return those that do not end."""
    while left := children():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            end = os.pidfd_open(pid)
            gone, _, _ = select.select([end], [], [], max(0.0, until - time.monotonic()))
            os.close(end)
            if not gone:
                return left
            os.waitpid(pid, 0)
    return []


def children() -> list[int]:
    """Return the pids of this process's children, adopted ones and zombies included."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        _, _, rest = facts.read(f"/proc/{pid}/stat").rpartition(")")
        if rest and int(rest.split()[1]) == os.getpid():
            found.append(int(pid))
    return found


@contextlib.contextmanager
def exclusive(bdf: str) -> Iterator[bool]:
    """Lock the device against other leases; yield whether that worked."""
    if not os.path.isdir(f"{facts.PCI}/{bdf}"):
        yield True
        return
    with open(f"{facts.PCI}/{bdf}/vendor") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def tell(code: int, reasons: list[str]) -> int:
    """Write the reasons to stderr, which may be closed already; return the code."""
    with contextlib.suppress(OSError):
        os.write(2, "".join(f"{reason}\n" for reason in reasons).encode())
    return code
