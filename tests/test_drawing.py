import dataclasses

import pytest
from click.testing import CliRunner

from vfio_lab.cli.topology import topology as command
from vfio_lab.errors import UsageError
from vfio_lab.hw.catalogue import TOPOLOGIES, find_topology
from vfio_lab.hw.drawing import drawing
from vfio_lab.hw.models import E1000E, IGB
from vfio_lab.hw.topology import Topology
from vfio_lab.hw.tree import Endpoint, RootPort

ALL = pytest.mark.parametrize("each", TOPOLOGIES.values(), ids=TOPOLOGIES)

IGB_DRAWN = """\
igb: an igb PF in a hotplug slot: its resets are slot resets

pcie.0                       intel-iommu                              group
├─ 00:01.0 port0             pcie-root-port 1b36:000c, slot reset     ─ A
│  └─ 01:00.0 pf0            igb 8086:10c9                            ─ B
│     └┄ 01:10.0 ...         up to 8 VFs, 8086:10ca                   ─ one each
└─ the lab's own, see below                                           ─ one each

BARs       pf0: BAR0 128 KiB, BAR1 128 KiB, BAR2 32 bytes of I/O, BAR3 16 KiB
           VFs of pf0: BAR0 16 KiB, BAR3 16 KiB
guest      1 CPU, 512 MiB
kernel     intel_iommu=on
template   yes
the lab's  host 00:00.0, image 00:10.0, modules 00:11.0, payload 00:12.0,
           agent 00:13.0, net 00:14.0, rng 00:15.0, panic 00:16.0, lpc 00:1f.0"""

TREES = {
    "igb-pair": """\
pcie.0                       intel-iommu                              group
├─ 00:01.0 port0             pcie-root-port 1b36:000c, slot reset     ─ A
│  └─ 01:00.0 pf0            igb 8086:10c9                            ─ B
│     └┄ 01:10.0 ...         up to 8 VFs, 8086:10ca                   ─ one each
├─ 00:02.0 port1             pcie-root-port 1b36:000c, slot reset     ─ C
│  └─ 02:00.0 pf1            igb 8086:10c9                            ─ D
│     └┄ 02:10.0 ...         up to 8 VFs, 8086:10ca                   ─ one each
├─ 00:03.0 port2             pcie-root-port 1b36:000c, slot reset     ─ E
│  └─ 03:00.0 nic0           e1000e 8086:10d3                         ─ F
└─ the lab's own, see below                                           ─ one each""",
    "multifunction": """\
pcie.0                       intel-iommu                              group
├─ 00:01.0 port0             pcie-root-port 1b36:000c, slot reset     ─ A
│  ├─ 01:00.0 nic0           e1000e 8086:10d3                         ┐ B
│  └─ 01:00.1 nic1           e1000e 8086:10d3                         ┘
├─ 00:02.0 nic2              e1000e 8086:10d3                         ─ C
└─ the lab's own, see below                                           ─ one each""",
    "bridge": """\
pcie.0                       intel-iommu                              group
├─ 00:01.0 port0             pcie-root-port 1b36:000c, slot reset     ─ A
│  └─ 01:00.0 bridge0        pcie-pci-bridge 1b36:000e                ┐ B
│     ├─ 02:01.0 nic0        e1000 8086:100e                          │
│     └─ 02:02.0 nic1        e1000 8086:100e                          ┘
└─ the lab's own, see below                                           ─ one each""",
    "switch": """\
pcie.0                       intel-iommu                              group
├─ 00:01.0 port0             pcie-root-port 1b36:000c, slot reset     ─ A
│  └─ 01:00.0 up0            x3130-upstream 104c:8232                 ─ B
│     ├─ 02:00.0 down0       xio3130-downstream 104c:8233, slot reset ┐ C
│     │  └─ 03:00.0 pf0      igb 8086:10c9                            │
│     │     └┄ 03:10.0 ...   up to 8 VFs, 8086:10ca                   ┘
│     └─ 02:01.0 down1       xio3130-downstream 104c:8233, slot reset ┐ D
│        └─ 04:00.0 nic0     e1000e 8086:10d3                         ┘
└─ the lab's own, see below                                           ─ one each""",
    "noiommu": """\
pcie.0                       no vIOMMU
├─ 00:01.0 port0             pcie-root-port 1b36:000c, slot reset
│  └─ 01:00.0 pf0            igb 8086:10c9
│     └┄ 01:10.0 ...         up to 8 VFs, 8086:10ca
├─ 00:02.0 port1             pcie-root-port 1b36:000c, slot reset
│  ├─ 02:00.0 nic0           e1000e 8086:10d3
│  └─ 02:00.1 nic1           e1000e 8086:10d3
└─ the lab's own, see below""",
}


def test_the_whole_drawing() -> None:
    assert drawing(find_topology("igb")) == IGB_DRAWN


@pytest.mark.parametrize("name", TREES)
def test_trees_and_groups(name: str) -> None:
    assert TREES[name] in drawing(find_topology(name))


@ALL
def test_every_drawing_fits_a_terminal(each: Topology) -> None:
    lines = drawing(each).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert "\0" not in drawing(each)


def test_resets_below_a_port_without_hotplug_are_bus_resets() -> None:
    assert "pcie-root-port 1b36:000c, bus reset" in drawing(find_topology("igb-bus"))


def test_why_there_is_no_template() -> None:
    assert "template   no, boots afresh: QEMU saves no state of its nvme device" in (
        drawing(find_topology("nvme-sriov"))
    )


def test_a_group_that_the_tree_interrupts_keeps_its_letter() -> None:
    shape = Topology(
        "shape",
        "a PF between whose VFs and sibling the tree goes on",
        (RootPort("port0", (Endpoint("pf0", IGB), Endpoint("nic0", E1000E))),),
    )
    groups = [line[70:] for line in drawing(shape).splitlines()[3:7]]
    assert groups == ["─ A", "─ B", "─ one each", "─ B"]


def test_a_larger_guest() -> None:
    large = dataclasses.replace(find_topology("igb"), cpus=2, memory_mib=1024)
    assert "2 CPUs, 1024 MiB" in drawing(large)


def test_listing() -> None:
    result = CliRunner().invoke(command, ["list"])
    assert result.exit_code == 0
    listed = {line.split()[0]: line.split(None, 1)[1] for line in result.output.splitlines()}
    assert listed == {name: each.summary for name, each in TOPOLOGIES.items()}


def test_showing() -> None:
    result = CliRunner().invoke(command, ["show", "igb"])
    assert result.exit_code == 0
    assert result.output == f"{IGB_DRAWN}\n"


def test_showing_what_does_not_exist() -> None:
    result = CliRunner().invoke(command, ["show", "ibg"])
    assert isinstance(result.exception, UsageError)
    assert "did you mean igb" in str(result.exception)


def test_bars_are_drawn_where_they_are_known() -> None:
    unknown = dataclasses.replace(E1000E, bars=())
    topology = Topology("own", "own", (RootPort("port0", (Endpoint("nic0", unknown),)),))
    assert "BAR" not in drawing(topology)
