"""What pytest-reportlog tells of a run while it runs."""

import subprocess
import sys

import pytest

from vfio_lab.campaign.report_log import RunProgress, follow_reports
from vfio_lab.campaign.results import Outcome
from vfio_lab.util.progress import Task

SCENARIOS = """
import pytest

def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("so")
@pytest.mark.xfail(reason="so", strict=True)
def test_is_known(): assert False
@pytest.fixture
def broken(): raise ValueError
def test_errs(broken): pass
@pytest.fixture
def untidy():
    yield
    raise ValueError
def test_ends_badly(untidy): pass
"""
ENDS = {
    "test_passes": Outcome.PASSED,
    "test_fails": Outcome.FAILED,
    "test_skips": Outcome.SKIPPED,
    "test_is_known": Outcome.KNOWN,
    "test_errs": Outcome.ERROR,
    "test_ends_badly": Outcome.ERROR,
}


def run(folder, *words):
    """Run these scenarios; return the task, and what was told, in order."""
    (folder / "test_it.py").write_text(SCENARIOS)
    task, told, fractions = Task("run", 6), [], []
    progress = RunProgress(task, 6, lambda nodeid, outcome: told.append((nodeid, outcome)))

    def take(record):
        progress(record)
        fractions.append(task.fraction)

    with follow_reports(take) as reports:
        command = [sys.executable, "-m", "pytest", "-p", "no:vfio-lab", "-q", *words]
        subprocess.run(
            [*command, f"--report-log={reports}", "test_it.py"],
            cwd=folder,
            check=False,
            timeout=60,
            capture_output=True,
        )
    return told, fractions


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["alone", "workers"])
def test_each_scenario_is_told_as_it_ends_with_its_outcome(tmp_path, words):
    told, fractions = run(tmp_path, *words)
    assert {nodeid.rpartition("::")[2]: outcome for nodeid, outcome in told} == ENDS
    assert len(told) == len(ENDS)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_progress_moves_while_a_scenario_runs():
    task = Task("run", 2)
    progress = RunProgress(task, 2, lambda *_: None)
    report = {"$report_type": "TestReport", "nodeid": "a::b", "outcome": "passed"}
    progress({**report, "when": "setup"})
    assert task.fraction == pytest.approx(1 / 6)
    assert task.note == "0 of 2, b: setup done"
    progress({**report, "when": "call"})
    assert task.fraction == pytest.approx(1 / 3)
    progress({**report, "when": "teardown"})
    assert task.note == "1 of 2, b: teardown done"


def test_a_scenario_whose_worker_is_lost_has_ended_in_error():
    told = []
    progress = RunProgress(Task("run", 1), 1, lambda *end: told.append(end))
    lost = {"$report_type": "TestReport", "nodeid": "a", "when": "???", "outcome": "failed"}
    progress(lost)
    assert told == [("a", Outcome.ERROR)]


def test_a_run_that_ends_in_the_middle_of_a_record_is_followed_to_its_end():
    seen = []
    with follow_reports(seen.append) as reports, reports.open("w") as log:
        log.write('{"one": 1}\n{"two"')
    assert seen == [{"one": 1}]


def test_a_run_that_never_opens_its_log_is_not_waited_for():
    with follow_reports(lambda _: None):
        pass
