"""Does a guest that was cloned while another scenario ran differ from one that was waited for?"""

import contextlib
import logging
from dataclasses import replace

import pytest

from vfio_lab.errors import BootError
from vfio_lab.machine.prefetch import ClonePrefetcher


@pytest.fixture
def prefetcher():
    """A prefetcher of the test's own."""
    prefetcher = ClonePrefetcher()
    yield prefetcher
    prefetcher.discard()


@pytest.fixture
def coming(prefetcher, machine, tmp_path):
    """A guest named `next` that is not awake yet."""
    prefetcher.start("next", machine, tmp_path / "next", keepable=False)
    return prefetcher.coming.guest


def test_whom_it_is_for_gets_it_awake(prefetcher, coming, machine):
    """Once."""
    with contextlib.closing(prefetcher.take("next", machine)) as guest:
        assert guest is coming
        assert guest.taints() == frozenset()
    assert prefetcher.take("next", machine) is None


@pytest.mark.parametrize("wrong", ["name", "machine"])
def test_nobody_else_gets_it(prefetcher, coming, machine, wrong):
    """One that was cloned for another scenario, or of other hardware, is thrown away."""
    other = replace(machine, topology=replace(machine.topology, cpus=2))
    asked = ("another", machine) if wrong == "name" else ("next", other)
    assert prefetcher.take(*asked) is None
    assert coming.qemu.ended
    assert prefetcher.take("next", machine) is None


def test_it_makes_no_logger(prefetcher, coming, machine):
    """Or pytest fails if it goes through all loggers at that moment, to catch what they log."""
    prefetcher.take("next", machine).close()
    before = set(logging.root.manager.loggerDict)
    prefetcher.start("second", machine, coming.folder.with_name("second"), keepable=False)
    prefetcher.take("second", machine).close()
    assert set(logging.root.manager.loggerDict) == before


def test_nothing_is_left_of_one_that_nobody_takes(prefetcher, coming):
    """Neither process nor folder, however far it had come."""
    prefetcher.discard()
    assert coming.qemu.ended
    assert not coming.folder.exists()


def test_one_that_dies_fails_who_takes_it(prefetcher, coming, machine):
    """The error is the one that a scenario waiting for it would have had."""
    coming.qemu.process.kill()
    with pytest.raises(BootError, match="the clone of next never became ready"):
        prefetcher.take("next", machine)
