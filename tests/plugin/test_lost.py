"""A guest that is lost to the host makes no verdict; one whose QEMU crashed is an error."""

import pytest

from vfio_lab.campaign import compare, results
from vfio_lab.campaign.results import Outcome

pytest_plugins = ["pytester"]

LOSSES = """
import itertools
from vfio_lab.errors import GuestKilled, QemuCrashed

tries = itertools.count()

def lose():
    try:
        raise OSError("the socket broke")
    except OSError as error:
        raise GuestKilled("the guest went away", seen="QEMU killed by signal 9") from error

@claim("A02")
def test_once(guest):
    if next(tries) == 0:
        lose()

@claim("A02")
def test_once_then_wrong(guest, tries=itertools.count()):
    if next(tries) == 0:
        lose()
    assert guest.name == 4711

@claim("A02")
def test_twice(guest):
    lose()

@claim("C03")
def test_known_to_fail(guest, tries=itertools.count()):
    if next(tries) == 0:
        lose()
    refuse(errno.EACCES)

@pytest.fixture
def gone(guest, tries=itertools.count()):
    if next(tries) == 0:
        lose()

def test_in_setup(guest, gone):
    pass

def test_crash(guest, tries=itertools.count()):
    assert next(tries) == 0
    raise QemuCrashed("the guest went away", seen="QEMU killed by signal 6")

def test_wrong(guest):
    assert guest.name == 4711
"""
ENDS = {
    "test_once": (Outcome.PASSED, True),
    "test_once_then_wrong": (Outcome.FAILED, True),
    "test_twice": (Outcome.ERROR, True),
    "test_known_to_fail": (Outcome.KNOWN, True),
    "test_in_setup": (Outcome.PASSED, True),
    "test_crash": (Outcome.ERROR, False),
    "test_wrong": (Outcome.FAILED, False),
}
KILLS_ITS_WORKER = """
import os
import signal

def test_killed(guest):
    os.kill(os.getpid(), signal.SIGKILL)

def test_passes(guest):
    pass
"""
WRONG = "\ndef test_wrong(guest):\n    assert False\n"
REASON = "the guest went away: QEMU killed by signal 9"


def name_of(nodeid):
    return nodeid.rpartition("::")[2]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_lost_guest_is_tried_once_more_and_named(run, pytester, workers):
    result = run(LOSSES, "-n", workers, "--junitxml", "junit.xml")
    result.assert_outcomes(passed=2, failed=2, errors=2, xfailed=1)
    (path,) = pytester.path.glob(".artifacts/*/results.json")
    found = results.read_results(path.parent).scenarios
    assert {name_of(one.nodeid): (one.outcome, bool(one.lost)) for one in found} == ENDS
    assert {one.lost for one in found if one.lost} == {REASON}
    for name in (name for name, (_, lost) in ENDS.items() if lost):
        result.stdout.fnmatch_lines([f"vfio-lab: lost to the host*::{name}: {REASON}"])
    junit = (pytester.path / "junit.xml").read_text()
    assert junit.count("<testcase") == len(ENDS)
    assert junit.count("<failure") == 2
    assert junit.count("<error") == 2


def test_a_comparison_does_not_call_a_lost_guest_a_change_for_the_worse(run, pytester):
    run(LOSSES)
    (path,) = pytester.path.glob(".artifacts/*/results.json")
    after = results.read_results(path.parent)
    good = [one for one in after.scenarios if one.outcome is Outcome.PASSED]
    before = results.Results(
        after.kernel,
        after.host,
        0.0,
        0.0,
        0,
        tuple(
            results.Record(one.nodeid, one.claims, "igb", Outcome.PASSED, "", 1.0, "")
            for one in after.scenarios
        ),
    )
    worse = {name_of(row.nodeid) for row in compare.rows([before, after]) if row.worsened}
    assert worse == {"test_once_then_wrong", "test_crash", "test_wrong"}
    assert len(good) == 2


@pytest.mark.parametrize(("wrong", "code"), [(False, 125), (True, 1)])
def test_a_killed_worker_makes_no_verdict(run, pytester, wrong, code):
    result = run(KILLS_ITS_WORKER + WRONG * wrong, "-n", "2", "--junitxml", "junit.xml")
    result.assert_outcomes(passed=1, errors=1, failed=int(wrong))
    assert result.ret == code
    (path,) = pytester.path.glob(".artifacts/*/results.json")
    found = {name_of(one.nodeid): one for one in results.read_results(path.parent).scenarios}
    killed = found["test_killed"]
    assert (killed.outcome, killed.judged) == (Outcome.ERROR, False)
    assert "crashed while running" in killed.lost
    assert "run again" not in result.stdout.str()
    assert (pytester.path / "junit.xml").read_text().count("<error") == 1


def test_a_failure_that_has_nothing_to_do_with_it_is_not_repeated(run):
    result = run(
        "import itertools\ntries = itertools.count()\n"
        "def test_it(guest):\n    assert next(tries) > 0\n"
    )
    result.assert_outcomes(failed=1)
