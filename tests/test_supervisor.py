"""The supervisor, with real processes in QEMU's place."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_lab.qemu.process import Qemu
from vfio_lab.util.deadline import Deadline

TIMEOUT_S = 20
# Says its pid when it runs, and lives until its wire's other end closes.
LIFE = "import os; print(os.getpid(), flush=True); os.read({fd}, 1)"
GUEST = [sys.executable, "-S", "-c", LIFE]
RUN = """
import os, socket, sys
from pathlib import Path
from vfio_lab.qemu.process import Qemu

ours, theirs = socket.socketpair()
command = [word.format(fd=theirs.fileno()) for word in sys.argv[2:]]
qemu = Qemu.launch(command, Path(sys.argv[1]), [theirs.fileno()], keepable=True)
theirs.close()
print(qemu.process.pid, flush=True)
if sys.stdin.readline() == "keep\\n":
    qemu.keep(ours.fileno())
    print("kept", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path):
    """A run with one guest that may be kept: the run, its guest's log."""
    log = tmp_path / "qemu.log"
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(log), *GUEST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process, log
        process.kill()


def pidfd_of_guest(log):
    deadline = Deadline.after(TIMEOUT_S)
    while not log.read_text().endswith("\n"):
        assert not deadline.passed
        select.select([], [], [], 0.01)
    return os.pidfd_open(int(log.read_text()))


def ends(pidfd, within_s=TIMEOUT_S):
    return select.select([pidfd], [], [], within_s)[0] == [pidfd]


def test_a_guest_that_is_not_kept_ends_with_its_run(run):
    process, log = run
    process.stdout.readline()
    guest = pidfd_of_guest(log)
    assert not ends(guest, 0.1)
    process.kill()
    assert ends(guest)


def test_a_kept_guest_outlives_its_run_and_dies_with_its_supervisor(run):
    process, log = run
    supervisor = int(process.stdout.readline())
    guest = pidfd_of_guest(log)
    process.stdin.write("keep\n")
    process.stdin.flush()
    assert process.stdout.readline() == "kept\n"
    process.kill()
    process.wait()
    assert not ends(guest, 0.3)
    os.kill(supervisor, signal.SIGTERM)
    assert ends(guest)


@pytest.mark.parametrize("script", ["echo no; exit 3", "kill -6 $$", "kill -9 $$"])
def test_a_supervisor_ends_as_its_guest_does(tmp_path, script):
    told = []
    for keepable in (False, True):
        log = tmp_path / str(keepable)
        process = Qemu.launch(["sh", "-c", script], log, [], keepable=keepable)
        assert process.await_end(Deadline.after(TIMEOUT_S))
        told.append(process.how_it_ended())
        process.kill()
    assert told[0] == told[1]


def test_killing_the_supervisor_kills_the_guest(tmp_path):
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [word.format(fd=theirs.fileno()) for word in GUEST]
            process = Qemu.launch(command, tmp_path / "log", [theirs.fileno()], keepable=True)
        guest = pidfd_of_guest(tmp_path / "log")
        process.kill()
        assert ends(guest)
        ours.settimeout(TIMEOUT_S)
        assert ours.recv(1) == b""
    assert not Path(f"/proc/{process.process.pid}").exists()


def test_what_was_not_launched_as_keepable_cannot_be_kept(tmp_path):
    process = Qemu.launch(["sleep", "600"], tmp_path / "log", [])
    with pytest.raises(ValueError, match="no supervisor"):
        process.keep()
    process.kill()
