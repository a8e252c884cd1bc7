"""A QEMU's lifetime, with real processes in its place, and the real one where it matters."""

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_lab.errors import LaunchError
from vfio_lab.qemu import process
from vfio_lab.qemu.process import Qemu
from vfio_lab.util.deadline import Deadline

TIMEOUT_S = 20
SLEEP = ["sleep", "600"]
PARENT = """
import sys
from pathlib import Path
from vfio_lab.qemu.process import Qemu

print(Qemu.launch(["sleep", "600"], Path(sys.argv[1]), []).process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def launch(tmp_path):
    """Launch commands in QEMU's place; end what is left of them."""
    running = []

    def start(*argv, inherit=()):
        running.append(Qemu.launch(argv, tmp_path / "qemu.log", inherit))
        return running[-1]

    yield start
    for each in running:
        each.kill()


def said(process):
    assert process.await_end(Deadline.after(TIMEOUT_S))
    return process.log.read_text()


def test_a_process_ends_when_its_parent_is_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        assert select.select([pidfd], [], [], 0.1) == ([], [], [])
        parent.kill()
        assert select.select([pidfd], [], [], TIMEOUT_S) == ([pidfd], [], [])
        os.close(pidfd)


def test_a_process_whose_parent_is_gone_already_does_not_start(tmp_path):
    command = ["/bin/sh", "-c", process.GUARD, "1", "touch", tmp_path / "started"]
    assert subprocess.run(command, check=False).returncode == 1
    assert not (tmp_path / "started").exists()


def test_a_running_process_says_so(launch):
    process = launch(*SLEEP)
    assert not process.ended
    assert not process.await_end(Deadline.after(0.01))
    assert process.how_it_ended() == "QEMU still running"
    assert process.argv == ("sleep", "600")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "QEMU exited with code 0"),
        ("echo no such machine >&2; exit 3", "QEMU exited with code 3, saying: no such machine"),
        ("echo out; kill -6 $$", "QEMU killed by signal 6, saying: out"),
        (r"printf '\377'; exit 1", "QEMU exited with code 1, saying: \ufffd"),
    ],
)
def test_an_end_is_told_with_what_was_said(launch, script, words):
    process = launch("sh", "-c", script)
    assert process.await_end(Deadline.after(TIMEOUT_S))
    assert process.ended
    assert process.how_it_ended() == words


def test_much_talk_is_told_by_its_end(launch):
    process = launch("sh", "-c", "seq 100000; echo the end")
    assert process.await_end(Deadline.after(TIMEOUT_S))
    assert process.how_it_ended().endswith("\n100000\nthe end")
    assert len(process.how_it_ended()) < 2100


def test_it_goes_before_the_run_when_memory_runs_out(launch):
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(said(launch("cat", "/proc/self/oom_score_adj"))) > own


def test_killing_leaves_no_zombie_and_may_be_repeated(launch):
    process = launch(*SLEEP)
    process.kill()
    assert not Path(f"/proc/{process.process.pid}").exists()
    process.kill()
    assert process.how_it_ended() == f"QEMU killed by signal {int(signal.SIGKILL)}"


@pytest.mark.parametrize("binary", ["no-such-qemu", "/no/such/qemu", "/etc/passwd"])
def test_what_cannot_be_executed_is_not_launched(tmp_path, binary):
    with pytest.raises(LaunchError, match=f"cannot start {binary}"):
        Qemu.launch([binary], tmp_path / "log", [])


def test_a_log_that_cannot_be_written_is_no_launch(tmp_path):
    with pytest.raises(LaunchError, match="cannot start sleep") as error:
        Qemu.launch(SLEEP, tmp_path / "none" / "log", [])
    assert "No such file" in error.value.seen


def test_only_the_descriptors_of_the_command_line_are_inherited(launch):
    with Path(os.devnull).open() as wanted, Path(os.devnull).open() as other:
        os.set_inheritable(other.fileno(), True)
        listed = said(launch("ls", "/proc/self/fd", inherit=[wanted.fileno()])).split()
        assert str(wanted.fileno()) in listed
        assert str(other.fileno()) not in listed


def test_a_terminals_signals_and_input_do_not_reach_the_process(launch):
    process = launch(*SLEEP)
    assert os.getsid(process.process.pid) == process.process.pid
    assert Path(f"/proc/{process.process.pid}/fd/0").readlink() == Path(os.devnull)


def test_what_the_process_writes_is_private(launch, tmp_path):
    before = os.umask(0)
    try:
        said(launch("touch", tmp_path / "console.log"))
    finally:
        os.umask(before)
    for name in ("console.log", "qemu.log"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_a_refused_command_line_is_told_in_qemus_words(launch):
    binary = "qemu-system-x86_64"
    if shutil.which(binary) is None:
        pytest.skip(f"needs QEMU: no {binary} on the PATH")
    process = launch(binary, "-machine", "no-such-machine")
    assert process.await_end(Deadline.after(TIMEOUT_S))
    assert process.how_it_ended().startswith("QEMU exited with code 1, saying: ")
    assert "unsupported machine type" in process.how_it_ended()
