"""Runs of the project's pytest plugins inside tests: a stub kernel and a fake guest."""

import json
import tomllib
from pathlib import Path

import pytest

import vfio_lab
from vfio_lab.campaign.results import read_results

PROJECT = Path(vfio_lab.__file__).parents[2]
# What a scenario of the inner runs imports: a guest_factory without a cache, a guest without QEMU.
CONFTEST = """
from pathlib import Path
from types import SimpleNamespace

import pytest

import vfio_lab_pytest.guests
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.guests import GUEST_FACTORY
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.state import Snapshot
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.client.transcript import Entry

HERE = Path(__file__).parent


class FakeGuest:
    def __init__(self, name, machine, folder):
        folder.mkdir(parents=True)
        self.name, self.machine, self.folder = name, machine, folder
        self.console = folder / "console.log"
        self.console.write_text("[    0.0] Linux version\\n")
        self.transcript = [Entry(0, 0, "vf_user", "open", "the VF", "EACCES")]
        self.closed = False
        self.awake = None

    start = classmethod(lambda cls, *args, keepable: cls(*args))

    def says(self, line):
        with self.console.open("a") as file:
            file.write(f"[    1.0] {line}\\n")

    def paste(self):
        return "qemu"

    def kernel_log(self):
        assert not self.closed
        return ["6,1,1000000,-;the kernel's last line"]

    def snapshot(self):
        return Snapshot((), ())

    def survey(self, seen):
        return {}

    def close(self):
        self.closed = True
        print("guest closed")


@pytest.fixture
def machine(monkeypatch, guest_factory, topology):
    monkeypatch.setattr(vfio_lab_pytest.guests, "Guest", FakeGuest)
    return SimpleNamespace(topology=topology, kernel=guest_factory.kernel, frozen=False)


def pytest_configure(config):
    release = config.getoption("--lab-kernel") or "7.3"
    version = tuple(map(int, release.split(".")))
    (HERE / "config").write_text("CONFIG_VFIO=y\\n")
    kernel = Kernel(release, release, version, HERE, HERE, HERE / "config", "digest")
    config.stash[GUEST_FACTORY] = SimpleNamespace(
        kernel=kernel,
        caps=SimpleNamespace(version=(10, 0, 2)),
        accelerator=SimpleNamespace(name="tcg"),
    )
"""
HEADER = """
import errno
import pytest
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused
from vfio_lab.client.call import Refusal

def refuse(number):
    raise Refusal(number, "vf_user", "open", "the VF")
"""


class Inner:
    """A run of one file of scenarios, with the project's own settings."""

    conftest = CONFTEST

    def __init__(self, pytester):
        self.pytester = pytester

    def __call__(self, scenario, *arguments, conftest=CONFTEST, apart=False):
        self.pytester.makeconftest(conftest)
        folder = self.pytester.path / "scenarios"
        folder.mkdir(exist_ok=True)
        (folder / "test_it.py").write_text(HEADER + scenario)
        start = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        return start(*arguments, "scenarios")

    def evidence(self):
        """Return the folders that scenarios left."""
        runs = self.pytester.path.glob(".artifacts/*/*")
        return sorted(path for path in runs if path.is_dir())

    def results(self):
        """Return what results.json says."""
        (path,) = self.pytester.path.glob(".artifacts/*/results.json")
        return read_results(path.parent)


@pytest.fixture
def run(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the inner run is in no worker
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["pytest"]
    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in settings["ini_options"].items()
        if key not in ("testpaths", "minversion")
    ]
    pytester.makepyprojecttoml("[tool.vfio-lab]\n[tool.pytest.ini_options]\n" + "\n".join(lines))
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    return Inner(pytester)
