"""The parent of a QEMU whose guest may be kept, started as `supervisor FD FDS COMMAND`.

FD is a socket to the run, FDS are descriptors for QEMU, separated by commas. QEMU dies with its
supervisor. The supervisor ends as QEMU ends, and it kills QEMU when the run closes the socket or
dies. After the run passes its descriptors of the guest, the supervisor holds them and keeps the
guest alive.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from select import select

from vfio_lab.qemu.process import guarded

WIRES = 2


def supervise(run: socket.socket, inherited: Sequence[int], command: Sequence[str]) -> int:
    """Start QEMU, kill it if the run closes its socket, and return QEMU's exit code.

    Args:
        run: the socket to the run, which may send the guest's descriptors through it.
        inherited: descriptors that QEMU inherits; the supervisor closes its own copies.
        command: QEMU's command line.
    """
    qemu = subprocess.Popen(guarded(command), pass_fds=inherited, stdin=subprocess.DEVNULL)
    for fd in inherited:  # otherwise QEMU's peers would see no end of file when QEMU ends
        os.close(fd)
    ended = os.pidfd_open(qemu.pid)
    watched: list[int | socket.socket] = [ended, run]
    while ended not in (ready := select(watched, [], [])[0]):
        if run in ready:
            kept = socket.recv_fds(run, 1, WIRES)[0]  # received descriptors are only kept open
            if not kept:
                qemu.kill()
            watched = [ended]
    return qemu.wait()


def main() -> None:
    """Supervise a QEMU, and exit with its exit code."""
    run, inherited, *command = sys.argv[1:]
    fds = [int(fd) for fd in inherited.split(",") if fd]
    code = supervise(socket.socket(fileno=int(run)), fds, command)
    if code < 0:
        resource.setrlimit(
            resource.RLIMIT_CORE, (0, 0)
        )  # a core dump would be this process's, not QEMU's
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
