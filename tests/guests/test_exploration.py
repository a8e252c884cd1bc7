"""Does the default kernel do what the model says, and is it noticed if it does not?"""

import os
import subprocess
import sys

import pytest

from vfio_lab.hw.catalogue import find_topology
from vfio_lab.model import rules
from vfio_lab.model.exploration import explorer
from vfio_lab.model.exploration.explorer import Exploration, LaneWalker, explore, shortened_walk
from vfio_lab.util import resources

SECONDS = {"igb": 12, "igb-bus": 6, "multifunction": 6, "noiommu": 10}
LONG_S = 120
RUN_TIMEOUT_S = 120
FEW_STEPS = 8


@pytest.fixture
def exploration(guest_factory, tmp_path):
    """An exploration of the hardware `igb` that has as long as it needs."""
    machine = guest_factory.boot_spec(find_topology("igb"))
    return Exploration(machine, tmp_path, seed=1, seconds=LONG_S)


@pytest.mark.parametrize(("topology", "seconds"), SECONDS.items(), ids=list(SECONDS))
def test_the_kernel_does_what_the_model_says(guest_factory, tmp_path, topology, seconds):
    machine = guest_factory.boot_spec(find_topology(topology))
    done = explore(Exploration(machine, tmp_path, seed=1, seconds=seconds))
    assert done.found is None, (tmp_path / explorer.SCENARIO).read_text()
    assert done.walks > 0


def test_a_disagreement_is_noticed_shortened_and_told_as_a_scenario_that_runs(
    exploration, monkeypatch
):
    """The model is wrong on purpose: it expects a group with a container not to say so."""
    monkeypatch.setitem(rules.RULES, "get_status", lambda *_, **__: {"flags": 1})
    walked = LaneWalker(exploration, 0).run()
    least = shortened_walk(exploration, walked.found)
    assert least.steps[-1].call == "get_status"
    assert len(least.steps) <= FEW_STEPS, least.steps
    assert (exploration.folder / "shortest" / "transcript.log").exists()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", exploration.folder / explorer.SCENARIO],
        cwd=resources.root(),
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_TIMEOUT_S,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout
