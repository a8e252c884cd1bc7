"""The board: what it counts, what it expects of the rest."""

import io

import pytest
from rich.console import Console

from vfio_lab.campaign.results import Outcome
from vfio_lab.report.run_status import Board


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def drawn(board):
    console = Console(file=io.StringIO(), width=60)
    console.print(board)
    return console.file.getvalue().splitlines()


def test_it_shows_what_ended_and_what_runs(clock):
    board = Board({}, 2, clock)
    board.plan(["scenarios/a.py::one", "scenarios/a.py::two", "scenarios/a.py::three", "b::four"])
    for nodeid in ("scenarios/a.py::one", "scenarios/a.py::two", "scenarios/a.py::three"):
        board.begin(nodeid)
    board.has_guest("scenarios/a.py::two", "igb")
    clock.now += 2
    board.end("scenarios/a.py::one", Outcome.FAILED)
    assert drawn(board) == [
        "1 of 4 scenarios, 1 failed",
        "1 guest, 2.0 s, about 6.0 s left",
        "   2.0 s  igb           a.py::two",
        "   2.0 s  -             a.py::three",
    ]


def test_at_first_the_last_run_says_what_is_left(clock):
    board = Board({"one": 30.0, "two": 10.0}, 2, clock)
    board.plan(["one", "two", "new"])
    assert board.left_s == (30 + 10 + 20) / 2


def test_later_this_runs_pace_does(clock):
    board = Board({"one": 30.0, "two": 10.0}, 2, clock)
    board.plan(["one", "two"])
    board.begin("one")
    clock.now += 60
    board.end("one", Outcome.PASSED)
    assert board.left_s == 20


def test_without_anything_to_go_by_nothing_is_promised(clock):
    board = Board({}, 2, clock)
    board.plan(["one", "two"])
    assert board.left_s is None
    assert drawn(board)[1] == "0 guests, 0.0 s"


def test_a_scenario_ends_once(clock):
    board = Board({}, 1, clock)
    board.plan(["one"])
    board.begin("one")
    board.end("one", Outcome.ERROR)
    board.end("one", Outcome.PASSED)
    assert drawn(board)[0] == "1 of 1 scenarios, 1 error"


def test_long_names_are_cut_to_the_line(clock):
    board = Board({}, 1, clock)
    board.plan(["x" * 100])
    board.begin("x" * 100)
    assert len(drawn(board)) == 3
