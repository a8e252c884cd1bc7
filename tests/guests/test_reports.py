"""Reproducers of docs/reports, in a guest without the agent: each shows its fault on 7.3."""

import pytest
from support.compilers import gcc, kernel_headers
from support.reproduced import failed_in_a_plain_guest, reported

__all__ = ["gcc", "kernel_headers"]


@pytest.mark.parametrize(
    ("hardware", "names"), [("igb", ["F98", "B45"]), ("noiommu", ["D42"])], ids=["igb", "noiommu"]
)
def test_reports_are_right_about_the_default_kernel(guest_factory, gcc, tmp_path, hardware, names):
    programs = reported(names, gcc, tmp_path)
    assert failed_in_a_plain_guest(guest_factory, hardware, programs, tmp_path) == {}


@pytest.mark.usefixtures("mocks")
def test_reports_are_right_about_mediated_devices(guest_factory, gcc, tmp_path):
    programs = reported(["S33", "S36", "S37", "S38"], gcc, tmp_path)
    assert failed_in_a_plain_guest(guest_factory, "igb", programs, tmp_path) == {}
