"""A full disk below the evidence takes no verdict along, and is told once."""

import pytest
from support.small_disk import small_disk

from vfio_lab.campaign import results

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
