"""The scenarios that a patch can reach: none that notices is left out, and few are run."""

import re

import pytest
from tests.support.command import vfio_lab

from vfio_lab.campaign import mutants
from vfio_lab.campaign.mutants import Mutant
from vfio_lab.campaign.reach import load_reach
from vfio_lab.campaign.runs import Choice, chosen_scenarios
from vfio_lab.campaign.selection import select_scenarios
from vfio_lab.kernels import trial
from vfio_lab.kernels.base import PackagedBase
from vfio_lab.util.cache import Cache

KERNEL = "7.3"
FAULT = mutants.FOLDER / KERNEL / "token-wrong-errno.patch"
KILLER = "test_match.py::test_vf_stays_shut_to_users_who_lack_the_pf_users_token"
SELECTED = re.compile(r"^(\d+) of (\d+) scenarios can reach the patch$", re.MULTILINE)


@pytest.mark.parametrize("fault", mutants.read_mutants(KERNEL), ids=lambda fault: fault.name)
def test_the_selection_holds_a_killer_of_every_mutant(cache: Cache, fault: Mutant) -> None:
    changes = trial.changed_files(PackagedBase(KERNEL, ""), fault.patches, cache)
    chosen = select_scenarios(load_reach(), changes, chosen_scenarios(Choice())).scenarios
    assert chosen
    if not fault.equivalent:
        assert {fault.noticed_by, fault.noticed_by.partition("[")[0]} & set(chosen)


@pytest.mark.usefixtures("cache")
def test_a_patch_is_tried_on_the_scenarios_that_reach_it() -> None:
    done = vfio_lab("try", FAULT, "--on", KERNEL)
    assert done.returncode == 1, done.stderr
    found = SELECTED.search(done.stdout)
    assert found is not None, done.stdout
    chosen, total = map(int, found.groups())
    assert 0 < chosen < total / 5
    assert "vfio_pci_core_match_token_uuid(): " in done.stdout
    assert KILLER in done.stdout
