"""The topologies that the lab knows, and those of extensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from vfio_lab.hw.models import (
    CXL_MEMORY,
    E1000,
    E1000E,
    E1000E_ROM,
    EDU,
    GIB,
    IGB,
    MIB,
    NVME,
    NVME_CROWD,
    SDHCI,
    VGA,
    VIRTIO_RNG,
    XHCI_MSI,
    shared_memory,
    test_device,
)
from vfio_lab.hw.topology import Topology, unknown_name
from vfio_lab.hw.tree import (
    ROOT_PORT,
    ROOT_PORT_WITHOUT_ACS,
    Bridge,
    DownstreamPort,
    Endpoint,
    Expander,
    RootPort,
    Switch,
)
from vfio_lab.hw.viommu import Viommu
from vfio_lab.util.extensions import join, load_extensions
from vfio_lab.util.project import once_a_project

# What boot parameters of the topology `acs` say of its ports: the bits of the ACS control register.
ROOT_PORT_TOLD_OTHERWISE = replace(ROOT_PORT, acs=False)
PORTS = ("0000:00:01.0", "0000:00:02.0", "0000:00:03.0")
# Distributions build in a driver for bridges that keeps their groups from users: nobody behind one
# could have a device, whatever the scenario is about. The lab's own kernels do not have it.
WITHOUT_SHPCHP = "initcall_blacklist=shpcd_init"
NO_ACS, ALL_ACS = "0000000", "0011101"


def _igb(name: str, summary: str, *, hotplug: bool = True) -> Topology:
    return Topology(name, summary, (RootPort("port0", (Endpoint("pf0", IGB),), hotplug=hotplug),))


_ALL = (
    _igb("igb", "an igb PF in a hotplug slot: its resets are slot resets"),
    _igb(
        "igb-bus",
        "an igb PF below a port without hotplug: its resets are bus resets",
        hotplug=False,
    ),
    Topology(
        "igb-pair",
        "two igb PFs and a NIC that is neither PF nor VF, a slot each",
        (
            RootPort("port0", (Endpoint("pf0", IGB),)),
            RootPort("port1", (Endpoint("pf1", IGB),)),
            RootPort("port2", (Endpoint("nic0", E1000E),)),
        ),
    ),
    Topology(
        "multifunction",
        "two NIC functions in one group, and a NIC on the root bus",
        (
            RootPort("port0", (Endpoint("nic0", E1000E), Endpoint("nic1", E1000E))),
            Endpoint("nic2", E1000E),
        ),
    ),
    Topology(
        "bridge",
        "two conventional NICs behind a bridge, all in one group",
        (
            RootPort(
                "port0",
                (Bridge("bridge0", (Endpoint("nic0", E1000), Endpoint("nic1", E1000))),),
            ),
        ),
        boot_words=(WITHOUT_SHPCHP,),
    ),
    Topology(
        "nic-bridge",
        "a NIC and a bridge as two functions, and a NIC below the bridge",
        (
            RootPort(
                "port0", (Endpoint("nic0", E1000E), Bridge("bridge0", (Endpoint("nic1", E1000),)))
            ),
        ),
        boot_words=(WITHOUT_SHPCHP,),
    ),
    Topology(
        "switch",
        "an igb PF and a NIC, each in the group of its switch port",
        (
            RootPort(
                "port0",
                (
                    Switch(
                        "up0",
                        (
                            DownstreamPort("down0", (Endpoint("pf0", IGB),)),
                            DownstreamPort("down1", (Endpoint("nic0", E1000E),)),
                        ),
                    ),
                ),
            ),
        ),
    ),
    Topology(
        "acs",
        "four NICs below ports with ACS, without it, or told to do without",
        (
            RootPort("port0", (Endpoint("nic0", E1000E),), model=ROOT_PORT_TOLD_OTHERWISE),
            RootPort("port1", (Endpoint("nic1", E1000E),), model=ROOT_PORT_TOLD_OTHERWISE),
            RootPort("port2", (Endpoint("nic2", E1000E),), model=ROOT_PORT_WITHOUT_ACS),
            RootPort("port3", (Endpoint("nic3", E1000E),)),
        ),
        boot_words=(
            f"pci=disable_acs_redir={PORTS[0]},config_acs={NO_ACS}@{PORTS[1]};{ALL_ACS}@{PORTS[2]}",
            "pcie_acs_override=downstream,multifunction",
        ),
    ),
    Topology(
        "nvme-sriov",
        "an NVMe PF, whose VFs follow it function by function",
        (RootPort("port0", (Endpoint("nvme0", NVME),)),),
    ),
    Topology(
        "nvme-no-room",
        "an NVMe PF below a port that has no room for its VFs",
        (RootPort("port0", (Endpoint("nvme0", NVME_CROWD),)),),
        boot_words=("pci=realloc=off",),
    ),
    replace(
        _igb("igb-large", "an igb PF and memory for guests of the guest's own"), memory_mib=2048
    ),
    replace(
        _igb("intel-pt", "an igb PF; host drivers' DMA is not translated"),
        boot_words=("iommu=pt",),
    ),
    replace(
        _igb("intel-strict", "an igb PF; unmapping flushes at once, addresses are high"),
        boot_words=("iommu.strict=1", "iommu.forcedac=1"),
    ),
    replace(
        _igb("scalable", "an igb PF; scalable mode with first-stage tables"),
        viommu_options=("scalable-mode=on", "flts=on"),
    ),
    replace(
        _igb("no-remapping", "an igb PF; its interrupts are not remapped"),
        viommu_options=("intremap=off",),
    ),
    replace(_igb("amd-iommu", "an igb PF behind an AMD IOMMU"), viommu=Viommu.AMD),
    replace(_igb("virtio-iommu", "an igb PF behind a virtio-iommu"), viommu=Viommu.VIRTIO),
    Topology(
        "misc-devices",
        "VGA, ROM and other rarities, without remapped interrupts",
        (
            RootPort("port0", (Endpoint("vga0", VGA),)),
            RootPort("port1", (Endpoint("rom0", E1000E_ROM),)),
            RootPort("port2", (Endpoint("rng0", VIRTIO_RNG),)),
            RootPort("port3", (Endpoint("usb0", XHCI_MSI),)),
            RootPort("port4", (Endpoint("sd0", SDHCI),)),
        ),
        viommu=Viommu.VIRTIO,
    ),
    Topology(
        "large-bars",
        "devices with BARs of 64 MiB and 1 GiB, and one of 2 MiB",
        (
            RootPort("port0", (Endpoint("mem0", shared_memory(64 * MIB, "mem0-ram")),)),
            RootPort("port1", (Endpoint("mem1", shared_memory(GIB, "mem1-ram")),)),
            RootPort("port2", (Endpoint("mem2", shared_memory(2 * MIB, "mem2-ram")),)),
        ),
    ),
    Topology(
        "qemu-devices",
        "QEMU's own edu and pci-testdev, and an igb PF",
        (
            RootPort("port0", (Endpoint("pf0", IGB),)),
            Endpoint("edu0", EDU),
            RootPort("port1", (Endpoint("test0", test_device(16 * MIB)),)),
        ),
    ),
    Topology(
        "nics",
        "six NICs: four below ports of their own, two below one",
        (
            *(RootPort(f"port{n}", (Endpoint(f"nic{n}", E1000E),)) for n in range(4)),
            RootPort("port4", (Endpoint("nic4", E1000E), Endpoint("nic5", E1000E))),
        ),
    ),
    Topology(
        "cxl",
        "a CXL memory device, with capabilities side by side",
        (RootPort("port0", (Endpoint("cxl0", CXL_MEMORY),)),),
    ),
    Topology(
        "noiommu",
        "an igb PF and a two-function NIC without any vIOMMU",
        (
            RootPort("port0", (Endpoint("pf0", IGB),)),
            RootPort("port1", (Endpoint("nic0", E1000E), Endpoint("nic1", E1000E))),
        ),
        viommu=Viommu.NONE,
    ),
    Topology(
        "mixed",
        "an igb PF behind the vIOMMU, and a NIC that bypasses it",
        (
            RootPort("port0", (Endpoint("pf0", IGB),)),
            Expander("expander0", (RootPort("port1", (Endpoint("nic0", E1000E),)),)),
        ),
        # 6.1 has no MSI for what bypasses interrupt remapping, and warns of a port that asks.
        boot_words=("pcie_ports=compat",),
    ),
)

TOPOLOGIES: Mapping[str, Topology] = MappingProxyType({value.name: value for value in _ALL})


@once_a_project
def topologies() -> Mapping[str, Topology]:
    """Return the topologies of the lab and of extensions, by name.

    Raises:
        UsageError: two have one name.
    """
    none: Iterable[Topology] = ()
    others = [
        (each.folder / "topologies.py", {value.name: value})
        for each in load_extensions()
        for value in each.value("topologies", "TOPOLOGIES", none)
    ]
    return join("topology", [("the lab's own", TOPOLOGIES), *others])


def find_topology(name: str) -> Topology:
    """Return the topology of that name.

    Raises:
        UsageError: there is none; names those that are close.
    """
    known = topologies()
    if name not in known:
        raise unknown_name("there is no topology", name, known)
    return known[name]
