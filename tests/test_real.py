"""What a machine that was looked at is to scenarios, and which login is meant."""

import json
from pathlib import Path

import pytest

from vfio_lab.agent.lease import facts
from vfio_lab.errors import HostError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.hw.pci import Bdf
from vfio_lab.machine import remote
from vfio_lab.machine.remote import RemoteHost
from vfio_lab.machine.ssh import Login

BDF = Bdf.parse("0000:41:00.0")
PF = {"vendor": 0x8086, "device": 0x10C9, "total_vfs": 2, "offset": 0x80, "stride": 2}
FACTS = {
    "machine": "x86_64",
    "release": "6.12.57+deb13-amd64",
    "built": "#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)",
    "config": "CONFIG_VFIO=m\n",
    "pf": {**PF, "vf_device": 0x10CA},
    "objections": [],
}


class Closed:
    """A connection that notes that it was closed."""

    def __init__(self, *_arguments):
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def reach(monkeypatch, tmp_path):
    def reach(**changed):
        monkeypatch.setattr(remote, "Ssh", Closed)
        monkeypatch.setattr(remote, "_look", lambda _ssh, _pf: {**FACTS, **changed})
        return RemoteHost.reach(Login("machine", 22), BDF, tmp_path)

    return reach


def test_the_device_is_pf0_and_its_vfs_are_on_the_allowlist(reach):
    machine = reach()
    assert machine.topology.function("pf0").bdf == BDF
    assert [each.role for each in machine.topology.pfs] == ["pf0"]
    assert machine.allowlist.functions == {"0000:41:00.0", "0000:41:10.0", "0000:41:10.2"}


@pytest.mark.parametrize(
    ("release", "built", "version"),
    [
        (FACTS["release"], FACTS["built"], (6, 12, 57)),
        ("6.1.0-25-amd64", "#1 SMP Debian 6.1.106-3 (2024-08-26)", (6, 1, 106)),
        ("6.17.8-arch1-1", "#1 SMP PREEMPT_DYNAMIC", (6, 17, 8)),
        ("7.1.0-rc3", "#2 SMP", (7, 1, 0)),
    ],
)
def test_the_kernel_is_what_uname_says(reach, release, built, version):
    kernel = reach(release=release, built=built).kernel
    assert (kernel.version, kernel.option("VFIO"), kernel.option("PCI")) == (version, "m", None)


def test_a_machine_of_another_architecture_is_refused_by_name(reach):
    with pytest.raises(HostError) as refused:
        reach(machine="aarch64")
    assert (refused.value.seen, refused.value.expected) == ("aarch64", "x86_64")
    assert refused.value.exit_code == 2


def test_a_device_in_use_is_refused(reach):
    with pytest.raises(HostError) as refused:
        reach(objections=["3 of its VFs are enabled", "its network interface eth0 is up"])
    assert refused.value.seen == "3 of its VFs are enabled; its network interface eth0 is up"
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        ("igb", ""),
        ("igb-pair", "nic0, pf1"),
        ("multifunction", "nic0, nic1, nic2"),
        ("igb-bus", "hardware like topology igb-bus"),
        ("virtio-iommu", "hardware like topology virtio-iommu"),
    ],
)
def test_what_a_scenario_has_more_than_a_pf_is_missing(reach, name, lacking):
    assert reach().lacks(find_topology(name), "base") == lacking
    assert reach().lacks(find_topology("igb"), "clients") == "the image clients"


def test_a_machine_is_known_as_ssh_knows_it(monkeypatch, tmp_path):
    (tmp_path / ".ssh").mkdir()
    config = "Host rack\n HostName 192.0.2.7\n Port 2222\n User admin\n IdentityFile ~/key\n"
    (tmp_path / ".ssh/config").write_text(config)
    monkeypatch.setenv("HOME", str(tmp_path))
    key = tmp_path / "key"
    assert Login.known_as("rack") == Login("192.0.2.7", 2222, "admin", key=key)
    assert Login.known_as("root@rack") == Login("192.0.2.7", 2222, "root", key=key)
    assert Login.known_as("root@192.0.2.9") == Login("192.0.2.9", 22, "root")


@pytest.fixture
def sysfs(monkeypatch, tmp_path):
    """A device in a tree of our own; returns what sets its attributes."""
    monkeypatch.setattr(facts, "PCI", str(tmp_path))
    monkeypatch.setattr(facts.os, "geteuid", lambda: 0)

    def have(**attributes):
        for name, value in {"sriov_totalvfs": 8, "sriov_numvfs": 0, **attributes}.items():
            path = tmp_path / "pf" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
        (tmp_path / "pf/iommu_group/devices/pf").mkdir(parents=True, exist_ok=True)
        return facts.objections("pf")

    return have


def test_nothing_speaks_against_an_idle_pf(sysfs):
    assert sysfs() == []


@pytest.mark.parametrize(
    ("attributes", "objection"),
    [
        ({"sriov_totalvfs": 0}, "it is no SR-IOV PF"),
        ({"sriov_numvfs": 3}, "3 of its VFs are enabled"),
        ({"net/eth9/flags": "0x1003"}, "its network interface eth9 is up"),
        ({"net/eth9/flags": "0x1002", "net/eth9/upper_br0": ""}, "eth9 is part of br0"),
    ],
)
def test_what_speaks_against_a_device_is_named(sysfs, attributes, objection):
    assert objection in sysfs(**attributes)[-1]


def test_a_neighbour_in_the_group_speaks_against_a_device(sysfs, tmp_path):
    (tmp_path / "pf/iommu_group/devices/other").mkdir(parents=True)
    assert "other is in its IOMMU group too" in sysfs()


def test_an_open_device_file_speaks_against_a_device(sysfs):
    null = Path("/dev/null").stat().st_rdev
    assert any(
        "is open in process" in one for one in sysfs(**{"ptp/ptp0/dev": facts.numbers(null)})
    )


def test_nobody_may_take_a_device_that_is_not_there(sysfs):
    sysfs()
    assert facts.objections("nothing") == ["there is no such device"]


def test_what_is_said_of_a_machine_can_be_sent(sysfs):
    sysfs()
    assert json.loads(json.dumps(facts.look("pf")))["pf"]["total_vfs"] == 8
