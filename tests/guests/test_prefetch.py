"""Does a guest that was cloned while another scenario ran differ from one that was waited for?"""

import contextlib
from dataclasses import replace

import pytest

from vfio_lab.errors import BootError
from vfio_lab.machine.prefetch import ClonePrefetcher


@pytest.fixture
def ahead():
    """One guest ahead, of no concern to the run's own."""
    ahead = ClonePrefetcher()
    yield ahead
    ahead.discard()


@pytest.fixture
def coming(ahead, machine, tmp_path):
    """A guest named `next` that is not awake yet."""
    ahead.start("next", machine, tmp_path / "next", keepable=False)
    return ahead.coming.guest


def test_whom_it_is_for_gets_it_awake(ahead, coming, machine):
    """Once."""
    with contextlib.closing(ahead.take("next", machine)) as guest:
        assert guest is coming
        assert guest.taints() == frozenset()
    assert ahead.take("next", machine) is None


@pytest.mark.parametrize("wrong", ["name", "machine"])
def test_nobody_else_gets_it(ahead, coming, machine, wrong):
    """One that was cloned for another scenario, or of other hardware, is thrown away."""
    other = replace(machine, topology=replace(machine.topology, cpus=2))
    asked = ("another", machine) if wrong == "name" else ("next", other)
    assert ahead.take(*asked) is None
    assert coming.qemu.ended
    assert ahead.take("next", machine) is None


def test_nothing_is_left_of_one_that_nobody_takes(ahead, coming):
    """Neither process nor folder, however far it had come."""
    ahead.discard()
    assert coming.qemu.ended
    assert not coming.folder.exists()


def test_one_that_dies_fails_who_takes_it(ahead, coming, machine):
    """The error is the one that a scenario waiting for it would have had."""
    coming.qemu.process.kill()
    with pytest.raises(BootError, match="the clone of next never became ready"):
        ahead.take("next", machine)
