"""A full disk below the evidence takes no verdict along, and is told once."""

import fcntl
import os

import pytest
from support.abandoned import abandoned
from support.small_disk import small_disk

from vfio_lab.campaign import results
from vfio_lab_pytest import full_disk

pytest_plugins = ["pytester"]

__all__ = ["small_disk"]
SCENARIOS = """
@claim("A02")
@pytest.mark.parametrize("number", range(6))
def test_passes(guest, number):
    pass

@claim("A02")
def test_fails(guest):
    assert guest.name == 4711
"""
NOTICE = "vfio-lab: not all evidence of 7 scenarios was kept: No space left on device: *"

KILLED = """
import os, signal

@claim("A02")
def test_kills_its_worker(guest):
    os.kill(os.getpid(), signal.SIGKILL)

@claim("A02")
@pytest.mark.parametrize("number", range(3))
def test_passes(guest, number):
    pass
"""


def told(result, text):
    return [line for line in result.outlines if text in line]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_disk_that_is_full_from_the_start_takes_no_verdict(run, small_disk, workers):
    small_disk.fill()
    junit = small_disk.path / "junit.xml"
    where = ["--lab-artifacts", str(small_disk.path), "--junitxml", str(junit)]
    result = run(SCENARIOS, "-n", workers, *where)
    result.assert_outcomes(passed=6, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines([NOTICE])
    assert len(told(result, "not all evidence")) == 1
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert not {name for name in small_disk.content() if ".lock" not in name}


def test_a_little_room_is_for_the_results(run, small_disk):
    result = run(SCENARIOS, "--lab-artifacts", str(small_disk.path))
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines([NOTICE])
    (path,) = small_disk.path.glob("*/results.json")
    found = results.read_results(path.parent)
    assert len(found.scenarios) == 7
    assert {one.missing for one in found.scenarios} == {"No space left on device"}
    assert {one.evidence for one in found.scenarios} == {""}
    assert {path.name for path in path.parent.iterdir()} == {"results.json"}


def test_a_roomy_disk_is_not_mentioned(run, tmp_path):
    result = run(SCENARIOS, "--lab-artifacts", str(tmp_path))
    assert told(result, "not all evidence") == []
    (path,) = tmp_path.glob("*/results.json")
    assert {one.missing for one in results.read_results(path.parent).scenarios} == {""}
    assert not list(path.parent.glob(".reserve"))


def test_a_killed_worker_leaves_nothing_in_memory(run, small_disk):
    before = abandoned()
    small_disk.fill()
    result = run(KILLED, "-n", "2", "--lab-artifacts", str(small_disk.path))
    result.assert_outcomes(passed=3, errors=1)
    assert abandoned() - before == set()


def test_what_is_locked_is_not_abandoned(tmp_path):
    mine, gone = (tmp_path / f"{full_disk.PREFIX}{name}" for name in ("mine", "gone"))
    mine.mkdir(), gone.mkdir()
    fd = os.open(mine, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    full_disk.delete_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]
    os.close(fd)
    full_disk.delete_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
