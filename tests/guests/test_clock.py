"""A guest whose kernel has measured its TSC wrongly, as on a busy host, is not used."""

from dataclasses import replace

import pytest

from vfio_lab.arch import X86_64
from vfio_lab.errors import WrongClock
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine import template
from vfio_lab.machine.guest import Guest

KHZ = 69_147  # as was measured once, of 2,596,132


@pytest.fixture
def cold(guest_factory):
    """A guest to be booted whose kernel is told a wrong speed of its TSC."""
    if guest_factory.accelerator.name != "tcg" or guest_factory.caps.architecture != X86_64:
        pytest.skip("only a kernel for x86-64 without KVM measures its TSC")
    spec = guest_factory.boot_spec(find_topology("igb"), cold=True)
    words = (*spec.files.kernel_args, f"tsc_early_khz={KHZ}")
    return replace(spec, files=replace(spec.files, kernel_args=words))


def test_a_booted_guest_is_refused(cold, tmp_path):
    """Its clock is far ahead when it has booted."""
    with pytest.raises(WrongClock, match="the clock of guest is wrong"):
        Guest.start("guest", cold, tmp_path / "guest")


def test_a_template_is_booted_again_and_then_refused(cold, tmp_path, caplog):
    """Clones would have its clock for good."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(WrongClock, match="the clock of template-igb"):
        template._freeze(cold, scratch, tmp_path / "log", "Freezing")
    assert caplog.text.count("boots again") == template.BOOTS - 1
    assert not (scratch / "state").exists()
