"""A guest that plays a real machine, and runs of the lab that borrow its PF over SSH."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from vfio_lab.campaign import results
from vfio_lab.campaign.results import Record
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.machine.guest import Guest
from vfio_lab.util import resources
from vfio_lab.util.deadline import Deadline, wait_until

PROJECT = resources.root()
DRIVER = "igb"
ALIAS = "real-machine"
RUN_TIMEOUT_S = 300.0
CHANGE_TIMEOUT_S = 120.0
SCENARIOS = "scenarios/vf_token/test_match.py"
SSH_CONFIG = """\
Host {alias}
    HostName {host}
    Port {port}
    User {user}
    IdentityFile {key}
"""


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Args:
        exit: pytest's exit code.
        said: what it printed.
        scenarios: its records, none if it judged nothing.
    """

    exit: int
    said: str
    scenarios: tuple[Record, ...]


@dataclass(frozen=True)
class LoanedHost:
    """A machine whose PF is on its host's driver and nobody's, and where runs can reach it.

    Args:
        guest: that plays it.
        pf: the PF.
        home: of those who run the lab: it has their SSH configuration.
    """

    guest: Guest
    pf: PciFunction
    home: Path

    def state(self) -> dict[str, object]:
        """Return what a run must leave as it was: driver, settings, VFs, modules, files."""
        modules = self.guest.root.read_file("/proc/modules").splitlines()
        return {
            "driver": self.pf.driver,
            "driver_override": self.pf.read("driver_override"),
            "numvfs": self.pf.numvfs,
            "modules": sorted(line.split()[0] for line in modules),
            "files": self.guest.root.listdir("/tmp"),
        }

    def interface(self, state: str) -> None:
        """Set the PF's network interface up or down."""
        (name,) = self.guest.root.listdir(f"{self.pf.path}/net")
        assert not self.guest.root.run("ip", "link", "set", name, state).exit

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a run on the machine.

        Args:
            arguments: pytest's, besides those that name machine and device.
        """
        plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        where = ["--lab-host", ALIAS, "--lab-pf", str(self.pf), "--lab-artifacts", str(self.kept)]
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", *where, *arguments],
            cwd=PROJECT,
            env={**plain, "HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> Run:
        """Run scenarios on the machine to the end."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=RUN_TIMEOUT_S)
        return Run(process.returncode, said, self.records())

    def records(self) -> tuple[Record, ...]:
        """Return what its runs found."""
        found = [one for folder in self.kept.glob("*/results.json") for one in _records(folder)]
        return tuple(found)

    def await_driver(self, driver: str) -> None:
        """Wait until a driver has the PF."""
        deadline = Deadline.after(CHANGE_TIMEOUT_S)
        wait_until(f"{driver} to have the PF", lambda: self.pf.driver == driver, deadline)

    def await_state(self, state: dict[str, object]) -> None:
        """Wait until the machine is in a state."""
        deadline = Deadline.after(CHANGE_TIMEOUT_S)
        wait_until("the machine to be as it was", lambda: self.state() == state, deadline)

    @property
    def kept(self) -> Path:
        """Where its runs leave their evidence."""
        return self.home / "artifacts"


@pytest.fixture
def loaned_host(guest: Guest, tmp_path: Path) -> LoanedHost:
    """A machine that is not the lab's: vfio not loaded, the PF on its host's driver."""
    guest.unload("vfio-pci")
    guest.unload("vfio_iommu_type1")
    guest.load(DRIVER)
    login = guest.login
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    config = SSH_CONFIG.format(
        alias=ALIAS, host=login.host, port=login.port, user=login.user, key=login.key
    )
    (folder / "config").write_text(config)
    assert login.host_key is not None
    public = login.host_key.read_text()
    (folder / "known_hosts").write_text(f"[{login.host}]:{login.port} {public}")
    loaned_host = LoanedHost(guest, guest.function("pf0"), tmp_path)
    loaned_host.await_driver(DRIVER)
    return loaned_host


def _records(path: Path) -> tuple[Record, ...]:
    return results.read_results(path.parent).scenarios
