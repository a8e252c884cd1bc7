"""Deadlines and the one loop that waits by looking."""

import itertools
import time

import pytest

from vfio_lab.errors import DeadlineExceeded
from vfio_lab.util.deadline import Deadline, wait_until


def test_a_deadline_runs_out_and_stays_there():
    assert Deadline.after(60).remaining_s == pytest.approx(60, abs=1)
    assert not Deadline.after(60).passed
    assert Deadline.after(-1).remaining_s == 0
    assert Deadline.after(0).passed


def test_waiting_ends_with_the_first_true_value():
    seen = iter([0, "", None, "there", "later"])
    assert wait_until("it", lambda: next(seen), Deadline.after(5)) == "there"


def test_what_is_there_already_is_found_after_the_deadline_too():
    assert wait_until("it", lambda: 1, Deadline.after(-1)) == 1


def test_the_state_is_looked_at_once_more_when_time_is_up():
    at = time.monotonic() + 0.02
    assert wait_until("it", lambda: time.monotonic() >= at, Deadline(at)) is True


def test_a_wait_in_vain_says_for_what_and_what_it_saw_last():
    looks = itertools.count()
    with pytest.raises(DeadlineExceeded) as late:
        wait_until("seven", lambda: 0 if next(looks) else None, Deadline.after(0.02))
    assert "timed out waiting for seven" in str(late.value)
    assert late.value.seen == "0"
    assert next(looks) > 2


def test_pauses_grow_so_that_a_long_wait_costs_little():
    looks = itertools.count()
    with pytest.raises(DeadlineExceeded):
        wait_until("it", lambda: next(looks) and None, Deadline.after(0.3))
    assert next(looks) < 20


def test_an_error_of_the_probe_is_not_waited_out():
    with pytest.raises(ZeroDivisionError):
        wait_until("it", lambda: 1 // 0, Deadline.after(5))
