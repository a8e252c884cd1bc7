"""How the vIOMMU of a topology gets onto the command line of the QEMU at hand."""

import dataclasses
from pathlib import Path

import pytest

from vfio_lab.errors import HostError
from vfio_lab.hw.catalogue import TOPOLOGIES, find_topology
from vfio_lab.qemu.argv import BootFiles, RunFiles, argv
from vfio_lab.qemu.capabilities import QemuCaps

CAPS = QemuCaps(
    Path("/usr/bin/qemu-system-x86_64"),
    (10, 0, 2),
    frozenset().union(*(each.qemu_devices for each in TOPOLOGIES.values())),
    "digest",
)
FILE = Path("/cache/file")
BOOT = BootFiles(kernel=FILE, image=FILE, fstype="squashfs", modules=FILE, payload=FILE)
RUN = RunFiles(Path("/run/g1"), "g1", qmp_fd=3, agent_fd=4)


def test_properties_are_spelled_as_the_qemu_at_hand_spells_them() -> None:
    names = {"intremap", "x-scalable-mode", "flts"}
    caps = dataclasses.replace(CAPS, properties=frozenset(f"intel-iommu.{n}" for n in names))
    words = argv(find_topology("scalable"), caps, "tcg", BOOT, RUN)
    assert "intel-iommu,intremap=on,x-scalable-mode=on,flts=on" in words


def test_a_property_that_this_qemu_lacks_is_named() -> None:
    caps = dataclasses.replace(CAPS, properties=frozenset({"intel-iommu.intremap"}))
    with pytest.raises(HostError, match="no property 'scalable-mode'") as refused:
        argv(find_topology("scalable"), caps, "tcg", BOOT, RUN)
    assert "--lab-qemu" in str(refused.value)


def test_an_amd_iommu_comes_last_and_takes_the_first_free_slot() -> None:
    topology = find_topology("amd-iommu")
    assert argv(topology, CAPS, "tcg", BOOT, RUN)[-1] == "amd-iommu,intremap=off"
    assert topology.function("iommu").bdf.short == "00:02.0"
