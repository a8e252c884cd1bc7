"""Scenarios as programs in guests without the agent: a hundred, on broken kernels, in reports."""

from pathlib import Path

import pytest
from support.compilers import gcc, gcc_arm64, kernel_headers
from support.reproduced import failed_in_a_plain_guest, reported, reproduced

from vfio_lab.campaign import mutants
from vfio_lab.campaign.results import Outcome
from vfio_lab.kernels import series, trial
from vfio_lab.kernels.base import PackagedBase
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util.cache import Cache

__all__ = ["gcc", "gcc_arm64", "kernel_headers"]
KERNEL, IGB = "7.3", "igb"
MANY = ("scenarios/vf_token", "scenarios/hot_reset")
FEW = ("scenarios/vf_token/test_match.py", "scenarios/vf_token/test_device_feature.py")
FAULTS = ("token-wrong-errno", "pf-wrong-token-passes", "token-feature-has-get")


@pytest.fixture(scope="module")
def few(tmp_path_factory, gcc):
    """Programs of the scenarios that the faults break, from a run on a kernel without a fault."""
    return reproduced(KERNEL, FEW, IGB, gcc, tmp_path_factory.mktemp("few"))


def test_a_hundred_scenarios_end_as_they_did(gcc, tmp_path):
    made = reproduced(KERNEL, MANY, IGB, gcc, tmp_path)
    assert len(made.programs) >= 100
    assert len(made.programs) / len(made.outcomes) > 0.8
    factory = GuestFactory.open(Cache.default().open(), KERNEL)
    assert failed_in_a_plain_guest(factory, IGB, made.programs, tmp_path) == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_on_a_broken_kernel_those_fail_whose_scenarios_fail(few, gcc, tmp_path, fault):
    cache = Cache.default().open()
    source = str(mutants.FOLDER / KERNEL / f"{fault}.patch")
    patches = series.read_series([source], Path.cwd()).patches
    base = PackagedBase(KERNEL, "the fault is for it")
    kernel = trial.ensure_pair(base, patches, cache).after.bzimage.parent
    judged = reproduced(kernel, FEW, IGB, gcc, tmp_path).outcomes
    failed = {name for name, outcome in judged.items() if outcome is Outcome.FAILED}
    assert failed
    factory = GuestFactory.open(cache, kernel)
    assert set(failed_in_a_plain_guest(factory, IGB, few.programs, tmp_path)) == failed


@pytest.mark.parametrize(
    ("name", "topology"), [("H13", "igb-pair"), ("F61", "cxl"), ("H07", IGB), ("U01", IGB)]
)
def test_a_report_is_right_about_the_default_kernel(gcc, tmp_path, name, topology):
    factory = GuestFactory.open(Cache.default().open(), KERNEL)
    programs = reported([name], gcc, tmp_path)
    assert failed_in_a_plain_guest(factory, topology, programs, tmp_path) == {}


def test_a_report_about_arm64_is_right(gcc_arm64, tmp_path):
    factory = GuestFactory.open(Cache.default().open(), f"{KERNEL}:arm64")
    programs = reported(["K36"], gcc_arm64, tmp_path)
    assert failed_in_a_plain_guest(factory, "virtio-iommu", programs, tmp_path) == {}
