"""Does a QEMU that is killed or crashes end as what it is?"""

import os
import signal
import subprocess
import sys
import time

import pytest

from vfio_lab.campaign import results
from vfio_lab.campaign.results import Outcome
from vfio_lab.errors import GuestKilled, GuestStopped, QemuCrashed
from vfio_lab.util import resources
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.host_time import STALLED_S, crowding

RUN_TIMEOUT_S = 300
REPORTED_WITHIN_S = 25
LONGEST_BLOCK_LINES = 80
# Whoever kills is the scenario itself; once only, or in each attempt.
KILLER = """
import os
from pathlib import Path

def test_it(guest):
    '''Its QEMU is killed under it, so many times.'''
    kills = Path(os.environ["KILLS"])
    left = int(kills.read_text())
    if left:
        kills.write_text(str(left - 1))
        os.kill(guest.qemu.process.pid, int(os.environ["SIGNAL"]))
    guest.root.read_file("/proc/version")
"""


@pytest.fixture
def kill(tmp_path):
    """Return what runs a scenario whose QEMU gets a signal so many times."""

    def run(number, times):
        kills = tmp_path / "kills"
        kills.write_text(str(times))
        scenario = tmp_path / "test_killer.py"
        scenario.write_text(KILLER)
        plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", str(scenario), "--lab-artifacts", str(tmp_path)],
            cwd=resources.root(),
            env={**plain, "KILLS": str(kills), "SIGNAL": str(int(number))},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_S,
        )
        (path,) = tmp_path.glob("*/results.json")
        (record,) = results.read_results(path.parent).scenarios
        return done, record, path.parent

    return run


def test_a_qemu_that_was_killed_once_changes_no_verdict(kill):
    done, record, _ = kill(signal.SIGKILL, 1)
    assert record.outcome is Outcome.PASSED, done.stdout
    assert "QEMU killed by signal 9" in record.lost
    assert done.returncode == 0
    assert done.stdout.count("vfio-lab: lost to the host, and run again: ") == 1


def test_a_qemu_that_is_killed_twice_is_an_error(kill):
    done, record, _ = kill(signal.SIGKILL, 2)
    assert record.outcome is Outcome.ERROR, done.stdout
    assert not record.judged
    assert done.returncode == 125


def test_a_qemu_that_crashes_is_an_error_with_the_crash_in_the_evidence(kill):
    done, record, folder = kill(signal.SIGABRT, 1)
    assert record.outcome is Outcome.ERROR, done.stdout
    assert record.reason.startswith("QemuCrashed: ")
    assert record.lost == ""
    crash = (folder / record.evidence / "crash.txt").read_text()
    assert "QEMU killed by signal 6" in crash
    assert "last calls:" in crash
    assert "#0" in crash or "core" in crash


def test_a_qemu_that_is_stopped_is_an_error_soon_and_in_one_block(kill):
    began = time.monotonic()
    done, record, _ = kill(signal.SIGSTOP, 1)
    assert time.monotonic() - began < REPORTED_WITHIN_S * crowding()
    assert record.outcome is Outcome.ERROR, done.stdout
    assert record.reason.startswith("GuestStopped: ")
    assert not record.judged
    assert "a signal or a debugger has stopped it" in done.stdout
    assert "Traceback" not in done.stdout
    assert len(done.stdout.splitlines()) < LONGEST_BLOCK_LINES


def test_a_guest_that_sleeps_is_not_taken_for_one_that_stands_still(guest):
    """An idle guest's QEMU runs now and then, for longer than a standstill takes to be told."""
    seconds = STALLED_S + 4
    fd = guest.root.eventfd()
    assert guest.root.await_event(fd, seconds) == 0


def test_a_monitor_that_does_not_answer_says_why(guest):
    deadline = Deadline.after(60)
    guest.qmp.execute("query-status", deadline=deadline)
    guest.qemu.process.send_signal(signal.SIGSTOP)
    with pytest.raises(GuestStopped) as stopped:
        guest.qmp.execute("query-status", deadline=deadline)
    assert "QEMU had no CPU time for 8 s" in stopped.value.seen
    guest.qemu.process.send_signal(signal.SIGCONT)


def test_a_kill_is_told_from_a_panic(guest):
    guest.qemu.process.kill()
    with pytest.raises(GuestKilled):
        guest.root.read_file("/proc/version")


def test_a_crash_is_told_from_a_kill(guest):
    guest.qemu.process.send_signal(signal.SIGSEGV)
    with pytest.raises(QemuCrashed):
        guest.root.read_file("/proc/version")
