"""The status: what it counts, what it expects of the rest."""

import io

import pytest
from rich.console import Console

from vfio_lab.campaign.results import Outcome
from vfio_lab.report.run_status import RunStatus


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def drawn(status):
    console = Console(file=io.StringIO(), width=60)
    console.print(status)
    return console.file.getvalue().splitlines()


def test_it_shows_what_ended_and_what_runs(clock):
    status = RunStatus({}, 2, clock)
    status.plan(["scenarios/a.py::one", "scenarios/a.py::two", "scenarios/a.py::three", "b::four"])
    for nodeid in ("scenarios/a.py::one", "scenarios/a.py::two", "scenarios/a.py::three"):
        status.begin(nodeid)
    status.has_guest("scenarios/a.py::two", "igb")
    clock.now += 2
    status.end("scenarios/a.py::one", Outcome.FAILED)
    assert drawn(status) == [
        "1 of 4 scenarios, 1 failed",
        "1 guest, 2.0 s, about 6.0 s left",
        "   2.0 s  igb           a.py::two",
        "   2.0 s  -             a.py::three",
    ]


def test_at_first_the_last_run_says_what_is_left(clock):
    status = RunStatus({"one": 30.0, "two": 10.0}, 2, clock)
    status.plan(["one", "two", "new"])
    assert status.left_s == (30 + 10 + 20) / 2


def test_later_this_runs_pace_does(clock):
    status = RunStatus({"one": 30.0, "two": 10.0}, 2, clock)
    status.plan(["one", "two"])
    status.begin("one")
    clock.now += 60
    status.end("one", Outcome.PASSED)
    assert status.left_s == 20


def test_without_anything_to_go_by_nothing_is_promised(clock):
    status = RunStatus({}, 2, clock)
    status.plan(["one", "two"])
    assert status.left_s is None
    assert drawn(status)[1] == "0 guests, 0.0 s"


def test_a_scenario_ends_once(clock):
    status = RunStatus({}, 1, clock)
    status.plan(["one"])
    status.begin("one")
    status.end("one", Outcome.ERROR)
    status.end("one", Outcome.PASSED)
    assert drawn(status)[0] == "1 of 1 scenarios, 1 error"


def test_long_names_are_cut_to_the_line(clock):
    status = RunStatus({}, 1, clock)
    status.plan(["x" * 100])
    status.begin("x" * 100)
    assert len(drawn(status)) == 3
