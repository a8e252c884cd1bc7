"""Faults that no pristine guest shows: a long life must, and must say under which scenario."""

from pathlib import Path

import pytest

from vfio_lab.campaign import mutants
from vfio_lab.campaign.results import Outcome, Record
from vfio_lab.campaign.runs import Choice, run_scenarios
from vfio_lab.kernels import trial
from vfio_lab.kernels.base import PackagedBase
from vfio_lab.util.cache import Cache

KERNEL, FLAVOUR = "7.3", "7.3:debug"
FOLDER = mutants.FOLDER / "long"
SEEN = {
    "config-map-leaks": ("memory of scenarios/device/test_reset.py", "vfio_config_init"),
    "locks-in-two-orders": ("possible circular locking dependency detected", ""),
}


def run(kernel: Path, fault: mutants.Mutant, where: Path, *options: str) -> list[Record]:
    """Run the scenarios that cover a fault, one at a time; return those that are not green."""
    choice = Choice(fault.covers, None, options, jobs=1)
    found = run_scenarios(kernel, choice, where, f"Running scenarios with {fault.name}")
    assert len(found.scenarios) > 1
    return [one for one in found.scenarios if one.outcome in (Outcome.FAILED, Outcome.ERROR)]


@pytest.mark.parametrize("name", SEEN)
def test_a_long_life_shows_what_pristine_guests_do_not(
    cache: Cache, tmp_path: Path, name: str
) -> None:
    """The scenarios are green in guests of their own, and not one after another."""
    (fault,) = (one for one in mutants.read_mutants(KERNEL, FOLDER) if one.name == name)
    pair = trial.ensure_pair(PackagedBase(FLAVOUR, "it sees more"), fault.patches, cache)
    folder = pair.after.bzimage.parent
    assert run(folder, fault, tmp_path / "pristine") == []
    told = "\n".join(one.reason for one in run(folder, fault, tmp_path / "long", "--lab-long=1"))
    assert all(words in told for words in SEEN[name]), told
