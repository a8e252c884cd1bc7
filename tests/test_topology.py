import dataclasses

import pytest

from vfio_lab.arch import AARCH64
from vfio_lab.errors import UsageError
from vfio_lab.hw.catalogue import PORTS, TOPOLOGIES, find_topology
from vfio_lab.hw.models import E1000E, IGB
from vfio_lab.hw.pci import Bdf
from vfio_lab.hw.topology import INFRASTRUCTURE_ROLES, Topology
from vfio_lab.hw.tree import (
    Bridge,
    DownstreamPort,
    Endpoint,
    RootPort,
    Switch,
    grouped,
    numbered,
)
from vfio_lab.hw.viommu import Viommu

ALL = pytest.mark.parametrize("each", TOPOLOGIES.values(), ids=TOPOLOGIES)

# As guests of the kernels 6.1, 6.12 and 7.3 numbered and grouped them.
SEEN = {
    "igb": {"port0": "00:01.0", "pf0": "01:00.0"},
    "igb-bus": {"port0": "00:01.0", "pf0": "01:00.0"},
    "igb-pair": {
        "port0": "00:01.0",
        "port1": "00:02.0",
        "port2": "00:03.0",
        "pf0": "01:00.0",
        "pf1": "02:00.0",
        "nic0": "03:00.0",
    },
    "multifunction": {"port0": "00:01.0", "nic2": "00:02.0", "nic0": "01:00.0", "nic1": "01:00.1"},
    "bridge": {"port0": "00:01.0", "bridge0": "01:00.0", "nic0": "02:01.0", "nic1": "02:02.0"},
    "nic-bridge": {
        "port0": "00:01.0",
        "nic0": "01:00.0",
        "bridge0": "01:00.1",
        "nic1": "02:01.0",
    },
    "switch": {
        "port0": "00:01.0",
        "up0": "01:00.0",
        "down0": "02:00.0",
        "down1": "02:01.0",
        "pf0": "03:00.0",
        "nic0": "04:00.0",
    },
    "acs": {
        "port0": "00:01.0",
        "port1": "00:02.0",
        "port2": "00:03.0",
        "port3": "00:04.0",
        "nic0": "01:00.0",
        "nic1": "02:00.0",
        "nic2": "03:00.0",
        "nic3": "04:00.0",
    },
    "nvme-sriov": {"port0": "00:01.0", "nvme0": "01:00.0"},
    "nvme-no-room": {"port0": "00:01.0", "nvme0": "01:00.0"},
    "igb-large": {"port0": "00:01.0", "pf0": "01:00.0"},
    "intel-pt": {"port0": "00:01.0", "pf0": "01:00.0"},
    "intel-strict": {"port0": "00:01.0", "pf0": "01:00.0"},
    "scalable": {"port0": "00:01.0", "pf0": "01:00.0"},
    "no-remapping": {"port0": "00:01.0", "pf0": "01:00.0"},
    "amd-iommu": {"port0": "00:01.0", "pf0": "01:00.0"},
    "virtio-iommu": {"port0": "00:01.0", "pf0": "01:00.0"},
    "misc-devices": {
        "port0": "00:01.0",
        "port1": "00:02.0",
        "port2": "00:03.0",
        "port3": "00:04.0",
        "port4": "00:05.0",
        "vga0": "01:00.0",
        "rom0": "02:00.0",
        "rng0": "03:00.0",
        "usb0": "04:00.0",
        "sd0": "05:00.0",
    },
    "large-bars": {
        "port0": "00:01.0",
        "port1": "00:02.0",
        "port2": "00:03.0",
        "mem0": "01:00.0",
        "mem1": "02:00.0",
        "mem2": "03:00.0",
    },
    "qemu-devices": {
        "port0": "00:01.0",
        "edu0": "00:02.0",
        "port1": "00:03.0",
        "pf0": "01:00.0",
        "test0": "02:00.0",
    },
    "nics": {
        **{f"port{n}": f"00:0{n + 1}.0" for n in range(5)},
        **{f"nic{n}": f"0{n + 1}:00.0" for n in range(5)},
        "nic5": "05:00.1",
    },
    "cxl": {"port0": "00:01.0", "cxl0": "01:00.0"},
    "noiommu": {
        "port0": "00:01.0",
        "port1": "00:02.0",
        "pf0": "01:00.0",
        "nic0": "02:00.0",
        "nic1": "02:00.1",
    },
    "mixed": {
        "port0": "00:01.0",
        "expander0": "00:02.0",
        "pf0": "01:00.0",
        "port1": "80:00.0",
        "nic0": "81:00.0",
    },
}
SHARED_GROUPS = {
    "multifunction": [{"nic0", "nic1"}],
    "bridge": [{"bridge0", "nic0", "nic1"}],
    "nic-bridge": [{"nic0", "bridge0", "nic1"}],
    "switch": [{"down0", "pf0"}, {"down1", "nic0"}],
    "acs": [{"port0", "nic0"}, {"port1", "nic1"}, {"port2", "nic2"}],
    "nics": [{"nic4", "nic5"}],
}


def bus(*children: Endpoint | RootPort) -> dict[int, Endpoint | RootPort]:
    return dict(enumerate(children, start=1))


@pytest.mark.parametrize("name", SEEN)
def test_addresses_are_those_that_guests_saw(name: str) -> None:
    assert {f.role: f.bdf.short for f in find_topology(name).endpoints} == SEEN[name]


def test_every_topology_was_seen() -> None:
    assert set(SEEN) == set(TOPOLOGIES)


@ALL
def test_groups_are_those_that_guests_made(each: Topology) -> None:
    shared = [{f.role for f in group} for group in each.groups if len(group) > 1]
    assert shared == SHARED_GROUPS.get(each.name, [])


@ALL
def test_every_function_behind_the_viommu_is_in_one_group(each: Topology) -> None:
    grouped_roles = [f.role for group in each.groups for f in group]
    if each.viommu is Viommu.NONE:
        assert grouped_roles == []
    else:
        assert sorted([*grouped_roles, *(["iommu"] if each.viommu.model else [])]) == (
            sorted(f.role for f in each.functions if not f.bypasses)
        )


def test_what_is_below_an_expander_bypasses_the_viommu() -> None:
    assert [f.role for f in find_topology("mixed").functions if f.bypasses] == ["port1", "nic0"]


@ALL
def test_roles_and_addresses_are_unique(each: Topology) -> None:
    assert len({f.role for f in each.functions}) == len(each.functions)
    assert len({f.bdf for f in each.functions}) == len(each.functions)


@ALL
def test_the_labs_furniture_is_where_nothing_is_under_test(each: Topology) -> None:
    taken = {f.bdf.device for f in each.endpoints if f.bdf.bus == 0}
    assert max(taken) < min(f.bdf.device for f in each.functions if f.role == "image")
    assert INFRASTRUCTURE_ROLES - {"iommu"} <= {f.role for f in each.functions}


@ALL
def test_a_listing_fits_a_terminal(each: Topology) -> None:
    assert len(f"{max(TOPOLOGIES, key=len)}  {each.summary}") <= 80
    assert len(f"{each.name}: {each.summary}") <= 80


def test_topologies_are_frozen_values() -> None:
    igb = find_topology("igb")
    assert igb == dataclasses.replace(igb)
    assert hash(igb) == hash(dataclasses.replace(igb))
    with pytest.raises(dataclasses.FrozenInstanceError):
        igb.name = "other"  # type: ignore[misc]  # what is tested


def test_only_what_qemu_can_save_is_frozen() -> None:
    unmigratable = [each.name for each in TOPOLOGIES.values() if not each.freezable]
    assert unmigratable == ["nvme-sriov", "nvme-no-room", "amd-iommu", "qemu-devices", "cxl"]
    assert find_topology("nvme-sriov").unmigratable == "QEMU saves no state of its nvme device"


def test_an_unknown_topology_is_answered_with_close_names() -> None:
    with pytest.raises(UsageError, match="no topology 'igb-pairs'") as refused:
        find_topology("igb-pairs")
    assert refused.value.exit_code == 2
    assert "did you mean igb-pair" in str(refused.value)
    assert "noiommu" in str(refused.value)


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(UsageError) as refused:
        find_topology("zzz")
    assert refused.value.hint == UsageError.usual_hint


def test_an_unknown_role_is_answered_with_close_names() -> None:
    with pytest.raises(UsageError, match="did you mean pf0"):
        find_topology("igb").function("pf1")


def test_vfs_are_where_guests_saw_them() -> None:
    pf = find_topology("igb").function("pf0")
    assert [str(pf.vf(index)) for index in (0, 7)] == ["0000:01:10.0", "0000:01:11.6"]
    nvme = find_topology("nvme-sriov").function("nvme0")
    assert [str(nvme.vf(index)) for index in (0, 3)] == ["0000:01:00.1", "0000:01:00.4"]


def test_a_pf_has_no_more_vfs_than_its_capability_says() -> None:
    with pytest.raises(UsageError, match="no such VF"):
        find_topology("igb").function("pf0").vf(8)


def test_a_nic_has_no_vfs() -> None:
    with pytest.raises(UsageError, match="not a PF"):
        find_topology("igb-pair").function("nic0").vf(0)


def test_pfs() -> None:
    assert [f.role for f in find_topology("igb-pair").pfs] == ["pf0", "pf1"]
    assert find_topology("bridge").pfs == ()


def test_kernel_args_follow_the_viommu() -> None:
    assert find_topology("igb").kernel_args == ("intel_iommu=on",)
    assert find_topology("noiommu").kernel_args == ("intel_iommu=off",)
    assert find_topology("mixed").kernel_args == ("intel_iommu=on", "pcie_ports=compat")
    assert not any("intel" in word for word in find_topology("virtio-iommu").kernel_args)
    assert not any("intel" in word for word in find_topology("amd-iommu").kernel_args)


def test_unsafe_interrupts_are_allowed_where_none_are_remapped() -> None:
    allowed = [
        each.name
        for each in TOPOLOGIES.values()
        if "iommufd.allow_unsafe_interrupts=1" in each.kernel_args
    ]
    assert allowed == ["no-remapping", "amd-iommu", "virtio-iommu", "misc-devices"]


def test_options_of_a_topology_replace_the_usual_ones_of_its_viommu() -> None:
    assert find_topology("igb").viommu_settings == ("intremap=on",)
    assert find_topology("no-remapping").viommu_settings == ("intremap=off",)
    assert find_topology("scalable").viommu_settings == (
        "intremap=on",
        "scalable-mode=on",
        "flts=on",
    )


def test_boot_words_follow_those_of_the_viommu() -> None:
    shaped = [each for each in TOPOLOGIES.values() if each.groups_follow_boot_words]
    assert [each.name for each in shaped] == ["acs"]
    assert shaped[0].kernel_args == ("intel_iommu=on", *shaped[0].boot_words)
    assert all(str(shaped[0].function(f"port{n}").bdf) == bdf for n, bdf in enumerate(PORTS))


def test_qemu_devices_are_all_that_the_command_line_names() -> None:
    assert {"igb", "pcie-root-port", "intel-iommu", "virtserialport", "vmcoreinfo"} <= (
        find_topology("igb").qemu_devices
    )
    assert "nvme-subsys" in find_topology("nvme-sriov").qemu_devices
    assert "intel-iommu" not in find_topology("noiommu").qemu_devices
    assert "" not in find_topology("noiommu").qemu_devices


def test_buses_are_numbered_depth_first() -> None:
    inner = Switch(
        "up",
        (
            DownstreamPort("a", (Bridge("bridge", (Endpoint("deep", E1000E),)),)),
            DownstreamPort("b", (Endpoint("late", E1000E),)),
        ),
    )
    found = numbered(bus(RootPort("first", (inner,)), RootPort("empty"), RootPort("last")))
    assert {f.role: str(f.bdf)[5:] for f in found} == {
        "first": "00:01.0",
        "empty": "00:02.0",
        "last": "00:03.0",
        "up": "01:00.0",
        "a": "02:00.0",
        "b": "02:01.0",
        "bridge": "03:00.0",
        "deep": "04:01.0",
        "late": "05:00.0",
    }


def test_a_bridge_drags_all_above_it_that_lacks_acs_into_its_group() -> None:
    inner = Switch("up", (DownstreamPort("down", (Bridge("bridge", (Endpoint("nic", E1000E),)),)),))
    groups = grouped(numbered(bus(RootPort("port", (inner,)))))
    assert [[f.role for f in group] for group in groups] == [
        ["port"],
        ["up"],
        ["down", "bridge", "nic"],
    ]


def test_functions_with_acs_are_apart_although_they_share_a_device() -> None:
    pair = RootPort("port", (Endpoint("one", IGB), Endpoint("two", IGB)))
    with_acs = dataclasses.replace(IGB, acs=True)
    apart = RootPort("port", (Endpoint("one", with_acs), Endpoint("two", with_acs)))
    assert [len(group) for group in grouped(numbered(bus(pair)))] == [1, 2]
    assert [len(group) for group in grouped(numbered(bus(apart)))] == [1, 1, 1]


def test_a_function_knows_its_ids() -> None:
    pf = find_topology("igb").function("pf0")
    assert (pf.vendor, pf.device, pf.parent) == (0x8086, 0x10C9, "port0")
    assert pf.bdf == Bdf(0, 1, 0)
    assert find_topology("igb").function("port0").parent is None


def test_only_a_virtio_iommu_groups_functions_late() -> None:
    late = [each.name for each in TOPOLOGIES.values() if each.groups_wait_for_drivers]
    assert late == ["virtio-iommu", "misc-devices"]


def test_functions_of_a_device_tree_are_grouped_late_too() -> None:
    assert find_topology("igb").on(AARCH64).groups_wait_for_drivers
