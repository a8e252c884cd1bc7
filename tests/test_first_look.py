import pytest

from vfio_lab.campaign import first_look
from vfio_lab.campaign.first_look import FirstLook, kernel_to_look_at
from vfio_lab.campaign.results import Outcome
from vfio_lab.kernels.distribution import distribution_catalogue


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(first_look, "say", lines.append)
    return lines


def test_only_the_first_scenario_that_passes_is_told(said):
    look = FirstLook("debian/bookworm", "7.3")
    for name, outcome in (("a", Outcome.SKIPPED), ("b", Outcome.PASSED), ("c", Outcome.PASSED)):
        look.note(name, outcome)
    assert [line.rpartition(" ")[2] for line in said] == ["b"]


def test_the_conclusion_counts_and_says_what_the_kernel_cannot_show():
    look = FirstLook("debian/bookworm", "7.3")
    look.note("a", Outcome.PASSED)
    look.note("b", Outcome.FAILED)
    words = look.conclusion({"IOMMUFD": "m", "VFIO_DEVICE_CDEV": "y"})
    assert "1 passed, 1 failed. It has no VFIO_NOIOMMU." in words
    assert words.endswith("will be of kernel 7.3.")


def test_a_look_that_came_to_nothing_says_so():
    assert ": nothing yet." in FirstLook("debian/bookworm", "7.3").conclusion({})


@pytest.mark.parametrize(
    ("release", "kernel"),
    [
        ({"ID": "debian", "VERSION_CODENAME": "trixie"}, "debian/trixie"),
        ({"ID": "fedora"}, "debian/bookworm"),
    ],
)
def test_a_look_is_at_the_hosts_own_kernel_if_there_is_one(monkeypatch, release, kernel):
    monkeypatch.setattr(first_look.platform, "freedesktop_os_release", lambda: release)
    assert kernel_to_look_at() == kernel
    assert kernel in distribution_catalogue()
