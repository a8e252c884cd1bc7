"""Reproducers of scenarios that were just run, in a guest without the agent: the same verdicts."""

from support.compilers import gcc, kernel_headers
from support.reproduced import failed_in_a_plain_guest, reproduced

__all__ = ["gcc", "kernel_headers"]
CHOSEN = ("scenarios/vf_token/test_match.py", "scenarios/hot_reset/test_execute.py")
IGB = "igb"


def test_reproducers_end_as_their_scenarios_did(guest_factory, gcc, tmp_path):
    made = reproduced("7.3", CHOSEN, IGB, gcc, tmp_path)
    assert made.programs
    assert made.unwritten == {}
    assert failed_in_a_plain_guest(guest_factory, IGB, made.programs, tmp_path) == {}
