"""Reproducers of docs/reports, in a guest without the agent: each shows its fault on 7.3."""

from support.compilers import gcc, kernel_headers
from support.reproduced import failed_in_a_plain_guest, reported

__all__ = ["gcc", "kernel_headers"]


def test_reports_are_right_about_the_default_kernel(guest_factory, gcc, tmp_path):
    programs = reported(["F98", "B45"], gcc, tmp_path)
    assert failed_in_a_plain_guest(guest_factory, "igb", programs, tmp_path) == {}
