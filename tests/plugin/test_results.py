"""What a run writes down: results.json, the last verdicts, JUnit XML."""

import shutil

import pytest

from vfio_lab.campaign import results
from vfio_lab.campaign.results import Outcome

pytest_plugins = ["pytester"]

ENDED = "C03"  # on 7.3
PASSING = """
@claim("A02")
def test_it(guest):
    '''It is so.'''
"""
ALL_KINDS = f"""
@claim("A02", "A03")
def test_passes(guest):
    pass

@claim("A02")
def test_fails(guest):
    assert guest.name == 4711

@claim("A39")
def test_lacks(guest):
    pass

@claim("{ENDED}")
def test_is_known(guest):
    refuse(errno.EACCES)

@pytest.fixture
def broken():
    refuse(errno.EBUSY)

def test_errs(broken):
    pass
"""
ALL_ENDS = {
    "test_passes": Outcome.PASSED,
    "test_fails": Outcome.FAILED,
    "test_lacks": Outcome.SKIPPED,
    "test_is_known": Outcome.KNOWN,
    "test_errs": Outcome.ERROR,
}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_writes_down_how_every_scenario_ended(run, pytester, workers):
    run(ALL_KINDS, "-n", workers)
    (path,) = pytester.path.glob(".artifacts/*/results.json")
    found = results.read_results(path.parent)
    by_name = {record.nodeid.rpartition("::")[2]: record for record in found.scenarios}
    assert {name: record.outcome for name, record in by_name.items()} == ALL_ENDS
    assert found.kernel["name"] == "7.3"
    assert found.exit_code == 1
    passed = by_name["test_passes"]
    assert (passed.claims, passed.topology, passed.reason) == (("A02", "A03"), "igb", "")
    assert (path.parent / passed.evidence / "transcript.log").exists()
    reasons = {name: by_name[name].reason for name in ALL_ENDS}
    assert reasons["test_lacks"] == "A39 needs CONFIG_IOMMUFD, which kernel 7.3 lacks"
    assert reasons["test_is_known"].startswith(f"{ENDED} no longer true: since 102c8b26b54e")
    assert "4711" in reasons["test_fails"]
    assert "EBUSY" in reasons["test_errs"]


def test_the_last_verdict_of_each_scenario_is_remembered_by_kernel(run, pytester):
    for scenario, *arguments in (
        (ALL_KINDS,),
        (ALL_KINDS.replace("4711", "guest.name"), "-k", "fails"),
        (ALL_KINDS, "-k", "passes", "--lab-kernel", "6.12.107"),
    ):
        run(scenario, *arguments)
        for folder in run.evidence():  # runs of one process in one second share a name
            shutil.rmtree(folder)
    found = results.last_verdicts(pytester.path / ".artifacts")
    nodeid = "scenarios/test_it.py::{}".format
    assert found["7.3"] == {
        nodeid(name): end for name, end in {**ALL_ENDS, "test_fails": Outcome.PASSED}.items()
    }
    assert found["6.12.107"] == {nodeid("test_passes"): Outcome.PASSED}


def test_junit_xml_names_claims_topology_and_evidence(run, pytester):
    run(PASSING, "--junitxml", "junit.xml")
    text = (pytester.path / "junit.xml").read_text()
    for name, value in (("claims", "A02"), ("topology", "igb"), ("evidence", "test_it.py-test_it")):
        assert f'<property name="{name}" value="{value}" />' in text


def test_a_run_is_written_as_ktap_too_and_says_how_to_repeat_it(run, pytester):
    run(ALL_KINDS, "--lab-ktap", "run.ktap")
    lines = [line.strip() for line in (pytester.path / "run.ktap").read_text().splitlines()]
    assert lines[0] == "KTAP version 1"
    assert "ok 1 test_passes" in lines
    assert "not ok 2 test_fails" in lines
    (path,) = pytester.path.glob(".artifacts/*/results.json")
    found = results.read_results(path.parent)
    assert found.command.startswith("pytest ")
    assert "--lab-ktap run.ktap" in found.command
    assert all(record.started >= found.started - 1 for record in found.scenarios)


def test_a_run_that_judges_nothing_writes_nothing(run, pytester):
    run(PASSING, "--collect-only")
    assert list(pytester.path.glob(".artifacts/*/*")) == []
