"""What the host gives: time on a core is told from time spent waiting for one."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from vfio_lab.errors import DeadlineExceeded, UsageError
from vfio_lab.util import host_time
from vfio_lab.util.deadline import CLOCK_FACTOR, Deadline, wait_until
from vfio_lab.util.host_time import LostTime, Progress, family, thread_times

SPIN = "while True: pass"
HOGS = 8


@pytest.fixture
def crowd():
    """Eight busy processes on one core, and a ninth that shares it with them."""
    core = {min(os.sched_getaffinity(0))}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)  # children inherit it
    hogs = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(HOGS)]
    os.sched_setaffinity(0, before)
    yield hogs
    for hog in hogs:
        hog.kill()
        hog.wait()


def test_a_family_is_a_process_and_what_it_started():
    script = "sleep 60 & echo started; wait"
    child = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        members = list(family(child.pid))
        assert members[0] == child.pid
        assert len(members) == 2
        assert len(thread_times(iter(members))) == 2
        assert set(members) <= set(family(os.getpid()))
    finally:
        for pid in reversed(members):
            os.kill(pid, signal.SIGKILL)
        child.communicate()


def test_time_without_a_core_is_lost(crowd):
    began = time.monotonic()
    lost = LostTime(crowd[0].pid)
    wait_until("three seconds", lambda: lost.look() is None or time.monotonic() > began + 3, far())
    # One of eight has an eighth of the core, if nobody else wants it.
    assert 1.0 < lost.seconds <= time.monotonic() - began


def test_a_deadline_moves_away_while_a_child_has_no_core(crowd):
    del crowd
    deadline = Deadline.after(1.0)
    with pytest.raises(DeadlineExceeded) as late:
        wait_until("what never comes", lambda: False, deadline)
    clock = time.monotonic() - deadline.began
    assert 2.0 < clock <= CLOCK_FACTOR + 1
    assert "1 s of the host's time" in late.value.expected or "on the clock" in late.value.expected


def test_the_clock_bounds_what_the_host_never_gives(monkeypatch):
    monkeypatch.setattr(LostTime, "look", lambda _self: 1000.0)
    deadline = Deadline.after(0.05)
    with pytest.raises(DeadlineExceeded) as late:
        wait_until("it", lambda: False, deadline)
    assert time.monotonic() - deadline.began == pytest.approx(0.5, abs=0.4)
    assert "on the clock, of which the host gave" in late.value.expected


def test_what_sleeps_has_the_clocks_seconds(monkeypatch):
    monkeypatch.setattr(LostTime, "look", lambda _self: 0.0)
    deadline = Deadline.after(0.1)
    with pytest.raises(DeadlineExceeded) as late:
        wait_until("it", lambda: False, deadline)
    assert time.monotonic() - deadline.began < 1
    assert late.value.expected.startswith("it within 0.1 s of the host's time")


def test_a_stopped_process_makes_no_progress_and_a_busy_one_does(monkeypatch):
    monkeypatch.setattr(host_time, "STALLED_S", 0.5)
    spinning = subprocess.Popen([sys.executable, "-c", SPIN])
    progress = Progress(spinning.pid)
    try:
        until = time.monotonic() + 1.5
        wait_until("a while", lambda: progress.stalled() or time.monotonic() > until, far())
        assert not progress.stalled()
        spinning.send_signal(signal.SIGSTOP)
        wait_until("its standstill", progress.stalled, far())
        assert progress.stopped
        spinning.send_signal(signal.SIGCONT)
        wait_until("its going on", lambda: not progress.stalled(), far())
        assert not progress.stopped
    finally:
        spinning.kill()
        spinning.wait()


def test_a_process_that_is_gone_is_no_error():
    gone = multiprocessing.Process(target=int)
    gone.start()
    gone.join()
    assert thread_times(family(gone.pid)) == {}
    assert LostTime(gone.pid).look() == 0
    assert host_time.crowding() >= 1


def far():
    return Deadline.after(60)


@pytest.fixture
def unmeasured(monkeypatch):
    """How slow this host is was not found out yet, and the environment does not say it."""
    monkeypatch.delenv(host_time.PATIENCE, raising=False)
    host_time.patience.cache_clear()
    yield
    host_time.patience.cache_clear()


@pytest.mark.usefixtures("unmeasured")
def test_a_host_that_takes_longer_for_some_work_gets_longer_deadlines(monkeypatch):
    usual = host_time._work_s()
    monkeypatch.setattr(host_time, "USUAL_S", usual / 4)
    assert 2 < host_time.patience() < 8
    deadline = Deadline.after(10)
    assert 20 < deadline.remaining_s < 80


@pytest.mark.usefixtures("unmeasured")
def test_a_fast_host_gets_no_shorter_ones(monkeypatch):
    monkeypatch.setattr(host_time, "USUAL_S", 10.0)
    assert host_time.patience() == 1.0


@pytest.mark.usefixtures("unmeasured")
def test_the_environment_says_how_slow_a_host_is(monkeypatch):
    monkeypatch.setenv(host_time.PATIENCE, "2.5")
    assert 24 < Deadline.after(10).remaining_s <= 25
    assert host_time.stalled_s() == 2.5 * host_time.STALLED_S


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("said", ["", "0", "0.5", "nan", "inf", "much", "1e9", "-3"])
def test_a_patience_that_is_no_factor_is_refused(monkeypatch, said):
    monkeypatch.setenv(host_time.PATIENCE, said)
    with pytest.raises(UsageError, match="patience"):
        Deadline.after(1)
