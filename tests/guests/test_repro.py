"""Reproducers of scenarios that were just run, in a guest without the agent: the same verdicts."""

import subprocess

import pytest
from support.kernel_source import kernel_source, uapi_headers
from support.plain_guest import run_in_plain_guest

from vfio_lab.campaign.runs import Choice, run_scenarios
from vfio_lab.report.repro.program import c_program
from vfio_lab.report.repro.recording import read_recording
from vfio_lab.util.host import which

__all__ = ["kernel_source", "uapi_headers"]
CHOSEN = ("scenarios/vf_token/test_match.py", "scenarios/hot_reset/test_execute.py")
BUILD = ("-Wall", "-Wextra", "-Werror", "-static", "-s")
IGB = "igb"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """The evidence folders of some scenarios that ran on this kernel, by their topology."""
    where = tmp_path_factory.mktemp("run")
    results = run_scenarios("7.3", Choice(CHOSEN), where, "Running what is reproduced")
    (run,) = (path.parent for path in where.glob("*/results.json"))
    passed = [one for one in results.scenarios if one.outcome.value == "passed"]
    return [run / one.evidence for one in passed if one.topology == IGB]


def build(evidence, headers, folder):
    """Write and build the reproducer of a scenario; return the program."""
    source, program = folder / "repro.c", folder / evidence.name
    source.write_text(c_program(read_recording(evidence)))
    subprocess.run([which("gcc"), *BUILD, f"-I{headers}", "-o", program, source], check=True)
    return program


def test_reproducers_end_as_their_scenarios_did(evidence, uapi_headers, guest_factory, tmp_path):
    programs = [build(one, uapi_headers, tmp_path) for one in evidence]
    assert programs
    ended = run_in_plain_guest(guest_factory, IGB, programs, tmp_path)
    assert len(ended) == len(programs)
    assert {name: said for name, (code, said) in ended.items() if code} == {}
