"""The hardware of a guest as a frozen value, and the topologies that the lab knows."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from vfio_lab.errors import UsageError
from vfio_lab.hw.models import (
    CXL_MEMORY,
    DISK,
    E1000,
    E1000E,
    E1000E_ROM,
    HOST_BRIDGE,
    IGB,
    LPC,
    NET,
    NVME,
    NVME_CROWD,
    PANIC,
    RNG,
    SDHCI,
    SERIAL,
    VGA,
    VIRTIO_IOMMU,
    VIRTIO_RNG,
    XHCI_MSI,
)
from vfio_lab.hw.tree import (
    ROOT_PORT,
    ROOT_PORT_WITHOUT_ACS,
    Bridge,
    DownstreamPort,
    Endpoint,
    Expander,
    Function,
    Node,
    RootPort,
    Switch,
    grouped,
    numbered,
)
from vfio_lab.util.extensions import join, load_extensions
from vfio_lab.util.project import once_a_project

# What boot parameters of the topology `acs` say of its ports: the bits of the ACS control register.
ROOT_PORT_TOLD_OTHERWISE = replace(ROOT_PORT, acs=False)
PORTS = ("0000:00:01.0", "0000:00:02.0", "0000:00:03.0")
# Distributions build in a driver for bridges that keeps their groups from users: nobody behind one
# could have a device, whatever the scenario is about. The lab's own kernels do not have it.
WITHOUT_SHPCHP = "initcall_blacklist=shpcd_init"
NO_ACS, ALL_ACS = "0000000", "0011101"

# Away from the low slots, so that what is under test has the same addresses in every lab.
INFRASTRUCTURE: Mapping[int, Endpoint] = MappingProxyType(
    {
        0x00: Endpoint("host", HOST_BRIDGE),
        0x10: Endpoint("image", DISK),
        0x11: Endpoint("modules", DISK),
        0x12: Endpoint("payload", DISK),
        0x13: Endpoint("agent", SERIAL),
        0x14: Endpoint("net", NET),
        0x15: Endpoint("rng", RNG),
        0x16: Endpoint("panic", PANIC),
        0x1F: Endpoint("lpc", LPC),
    }
)
VIRTIO_IOMMU_SLOT = 0x17
MEMORY_MIB = 512
INFRASTRUCTURE_ROLES = frozenset(node.role for node in INFRASTRUCTURE.values()) | {"iommu"}


class Viommu(enum.Enum):
    """What translates the guest's DMA, by QEMU's name for the device."""

    INTEL = "intel-iommu"
    VIRTIO = "virtio-iommu-pci"
    NONE = ""


_KERNEL_ARGS: Mapping[Viommu, tuple[str, ...]] = {
    Viommu.INTEL: ("intel_iommu=on",),
    # It remaps no interrupts, so VFIO refuses it unless told otherwise; a scenario about that
    # refusal writes N to the parameters in sysfs.
    Viommu.VIRTIO: (
        "vfio_iommu_type1.allow_unsafe_interrupts=1",
        "iommufd.allow_unsafe_interrupts=1",
    ),
    # VFIO's own no-IOMMU switch stays off: that it is needed is for scenarios to show.
    Viommu.NONE: ("intel_iommu=off",),
}


@dataclass(frozen=True)
class Topology:
    """The hardware of a guest.

    Args:
        name: as on the command line.
        summary: what it is good for, one line.
        below: what is on the root bus, from device 1 up.
        viommu: what translates DMA.
        cpus: virtual CPUs; under TCG a second one makes nothing faster.
        memory_mib: RAM, in MiB.
        boot_words: further words for the kernel's command line.
    """

    name: str
    summary: str
    children: tuple[Node, ...]
    viommu: Viommu = Viommu.INTEL
    cpus: int = 1
    memory_mib: int = MEMORY_MIB
    boot_words: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return `Topology(igb)`."""
        return f"{type(self).__name__}({self.name})"

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All PCI functions that the guest finds before any VF exists, in bus order."""
        own: dict[int, Node] = dict(enumerate(self.children, start=1))
        iommu: dict[int, Node] = {}
        if self.viommu is Viommu.VIRTIO:
            iommu[VIRTIO_IOMMU_SLOT] = Endpoint("iommu", VIRTIO_IOMMU)
        return numbered({**INFRASTRUCTURE, **iommu, **own})

    @property
    def endpoints(self) -> tuple[Function, ...]:
        """The functions that are not part of the lab's own infrastructure."""
        return tuple(each for each in self.functions if each.role not in INFRASTRUCTURE_ROLES)

    @property
    def pfs(self) -> tuple[Function, ...]:
        """The functions that can have VFs."""
        return tuple(each for each in self.functions if each.model.sriov)

    @cached_property
    def groups(self) -> tuple[tuple[Function, ...], ...]:
        """The IOMMU groups that the guest makes of them; none without a vIOMMU."""
        if self.viommu is Viommu.NONE:
            return ()
        translated = [each for each in self.functions if not each.bypasses]
        return grouped([function for function in translated if function.role != "iommu"])

    @property
    def groups_wait_for_drivers(self) -> bool:
        """Whether a function may be in no group yet until a driver has probed it.

        With a virtio-iommu it is so on 6.1 and 6.12, and no longer on 7.3.

        Source: drivers/acpi/scan.c, acpi_dma_configure_id(); drivers/acpi/viot.c.
        """
        return self.viommu is Viommu.VIRTIO

    @property
    def groups_follow_boot_words(self) -> bool:
        """Whether boot parameters shape its groups, which not every kernel knows."""
        return any("config_acs=" in word for word in self.boot_words)

    @property
    def kernel_args(self) -> tuple[str, ...]:
        """What the kernel's command line says about this hardware."""
        return (*_KERNEL_ARGS[self.viommu], *self.boot_words)

    @property
    def options(self) -> tuple[str, ...]:
        """The kernel options without which it is not what it is here for."""
        return ("VIRTIO_IOMMU",) if self.viommu is Viommu.VIRTIO else ()

    @property
    def unmigratable(self) -> str:
        """Why QEMU cannot save a guest of this kind, empty if it can."""
        reasons = {function.model.unmigratable for function in self.functions}
        return "; ".join(sorted(reasons - {""}))

    @property
    def freezable(self) -> bool:
        """Whether a template can be made of it; if not, its guests boot afresh."""
        return not self.unmigratable

    @property
    def qemu_devices(self) -> frozenset[str]:
        """The device types that QEMU must have."""
        models = {function.model for function in self.functions}
        names = {name for model in models for name in (model.qemu, *model.needs)}
        return frozenset(names | {self.viommu.value, "vmcoreinfo", "isa-serial"}) - {""}

    def function(self, role: str) -> Function:
        """Return the function that plays a role, such as `pf0`.

        Raises:
            UsageError: there is none; names those that are close.
        """
        by_role = {function.role: function for function in self.functions}
        if role not in by_role:
            raise _unknown(f"topology {self.name} has no function", role, by_role)
        return by_role[role]


def _igb(
    name: str,
    summary: str,
    *,
    hotplug: bool = True,
    viommu: Viommu = Viommu.INTEL,
    memory_mib: int = MEMORY_MIB,
) -> Topology:
    port = RootPort("port0", (Endpoint("pf0", IGB),), hotplug=hotplug)
    return Topology(name, summary, (port,), viommu=viommu, memory_mib=memory_mib)


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
    _igb("igb-large", "an igb PF and memory for guests of the guest's own", memory_mib=2048),
    _igb("virtio-iommu", "an igb PF behind a virtio-iommu", viommu=Viommu.VIRTIO),
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
        raise _unknown("there is no topology", name, known)
    return known[name]


def _unknown(what: str, name: str, known: Mapping[str, object]) -> UsageError:
    close = difflib.get_close_matches(name, known)
    return UsageError(
        f"{what} {name!r}",
        expected=f"one of {', '.join(known)}",
        hint=f"did you mean {' or '.join(close)}?" if close else None,
    )
