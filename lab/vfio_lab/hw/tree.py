"""Trees of PCI devices as frozen values, and what Linux makes of them.

A tree says what is plugged into what. Addresses and IOMMU groups are not written down but
follow from it by the rules of the firmware's bus numbering and of Linux' grouping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from vfio_lab.errors import UsageError
from vfio_lab.hw.pci import Bdf, vf_bdf

ROM = 6
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


@dataclass(frozen=True)
class Bar:
    """A base address register.

    Args:
        index: its number; 6 is the expansion ROM.
        size: bytes.
        io: whether it is of I/O ports.
    """

    index: int
    size: int
    io: bool = False

    def __str__(self) -> str:
        """Return `BAR0 128 KiB`."""
        name = "ROM" if self.index == ROM else f"BAR{self.index}"
        unit = next((unit for unit in UNITS if self.size >= UNITS[unit]), "bytes")
        return f"{name} {self.size // UNITS.get(unit, 1)} {unit}{' of I/O' if self.io else ''}"


@dataclass(frozen=True)
class Sriov:
    """The SR-IOV capability of a model.

    Args:
        total_vfs: TotalVFs.
        offset: First VF Offset, in routing IDs.
        stride: VF Stride, in routing IDs.
        device: device ID of the VFs; their vendor is the PF's.
        bars: of each VF.
    """

    total_vfs: int
    offset: int
    stride: int
    device: int
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Model:
    """A kind of device that QEMU emulates.

    Args:
        qemu: QEMU's name for it; empty for what the machine has without being asked.
        vendor: vendor ID.
        device: device ID.
        options: further properties for `-device`, each `name=value`.
        needs: other QEMU device types that its options refer to.
        objects: QEMU objects that its options refer to, each as for `-object`.
        acs: whether it keeps apart what is on either side of it, or its own functions.
        bars: its base address registers and ROM, as far as they are known.
        sriov: its SR-IOV capability, if it is a PF.
        unmigratable: why QEMU cannot save its state; empty if it can.
    """

    qemu: str
    vendor: int
    device: int
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    acs: bool = False
    bars: tuple[Bar, ...] = ()
    sriov: Sriov | None = None
    unmigratable: str = ""

    def __repr__(self) -> str:
        """Return `Model(igb)`."""
        return f"{type(self).__name__}({self.qemu or self.ids})"

    @property
    def ids(self) -> str:
        """Vendor and device ID as `lspci -n` prints them."""
        return f"{self.vendor:04x}:{self.device:04x}"


ROOT_PORT = Model("pcie-root-port", 0x1B36, 0x000C, acs=True)
ROOT_PORT_WITHOUT_ACS = replace(ROOT_PORT, options=("disable-acs=on",), acs=False)
# An upstream port passes no traffic between functions of its own: nothing for ACS to control.
UPSTREAM_PORT = Model("x3130-upstream", 0x104C, 0x8232, acs=True)
DOWNSTREAM_PORT = Model("xio3130-downstream", 0x104C, 0x8233)
PCI_BRIDGE = Model("pcie-pci-bridge", 0x1B36, 0x000E)
EXPANDER_BUS = 0x80
EXPANDER = Model("pxb-pcie", 0x1B36, 0x000B, options=(f"bus_nr={EXPANDER_BUS}", "bypass_iommu=on"))


@dataclass(frozen=True)
class Endpoint:
    """A device function at the end of a branch."""

    role: str
    model: Model


@dataclass(frozen=True)
class RootPort:
    """A port of the root complex, below which are the functions of one device.

    Args:
        role: its name in the lab.
        below: the functions, from 0 up.
        hotplug: whether pciehp drives it, which turns bus resets into slot resets.
    """

    role: str
    children: tuple[Node, ...] = ()
    hotplug: bool = True
    model: Model = ROOT_PORT


@dataclass(frozen=True)
class Switch:
    """An upstream port and the downstream ports on the switch's own bus."""

    role: str
    children: tuple[DownstreamPort, ...]
    model: Model = UPSTREAM_PORT


@dataclass(frozen=True)
class DownstreamPort:
    """A port of a switch, below which are the functions of one device."""

    role: str
    children: tuple[Node, ...] = ()
    hotplug: bool = True
    model: Model = DOWNSTREAM_PORT


@dataclass(frozen=True)
class Bridge:
    """A bridge to a conventional PCI bus, one device a slot."""

    role: str
    children: tuple[Endpoint, ...]
    model: Model = PCI_BRIDGE


@dataclass(frozen=True)
class Expander:
    """A second host bridge, whose devices' DMA bypasses the vIOMMU."""

    role: str
    children: tuple[RootPort, ...]
    model: Model = EXPANDER


Node: TypeAlias = Endpoint | RootPort | Switch | DownstreamPort | Bridge | Expander


@dataclass(frozen=True)
class Function:
    """One PCI function that the guest will find.

    Args:
        role: its name in the lab.
        model: what it is.
        bdf: where the guest sees it.
        parent: role of the port or bridge above it; None on the root bus.
        multifunction: whether it shares its device number with other functions.
        hotplug: whether it is a port that pciehp drives.
        bypasses: whether its DMA goes past the vIOMMU.
    """

    role: str
    model: Model
    bdf: Bdf
    parent: str | None = None
    multifunction: bool = False
    hotplug: bool = False
    bypasses: bool = False

    def __repr__(self) -> str:
        """Return `Function(pf0: igb at 0000:01:00.0)`."""
        what = self.model.qemu or self.model.ids
        return f"{type(self).__name__}({self.role}: {what} at {self.bdf})"

    @property
    def is_slot(self) -> bool:
        """Whether it is a port into which a device is plugged."""
        return self.model.qemu in (ROOT_PORT.qemu, DOWNSTREAM_PORT.qemu)

    @property
    def vendor(self) -> int:
        """Vendor ID."""
        return self.model.vendor

    @property
    def device(self) -> int:
        """Device ID."""
        return self.model.device

    def vf(self, index: int) -> Bdf:
        """Return where a VF of this PF appears, counted from 0.

        Raises:
            UsageError: it is no PF, or has no such VF.
        """
        sriov = self.model.sriov
        if sriov is None:
            raise UsageError(f"{self.role} is not a PF", device=str(self.bdf), seen=self.model.qemu)
        if not 0 <= index < sriov.total_vfs:
            raise UsageError(
                f"{self.role} has no such VF",
                device=str(self.bdf),
                expected=f"0 to {sriov.total_vfs - 1}",
                seen=str(index),
            )
        return vf_bdf(self.bdf, index, offset=sriov.offset, stride=sriov.stride)


def numbered(root_bus: Mapping[int, Node]) -> tuple[Function, ...]:
    """Return all functions in bus order, with the addresses that the guest sees.

    Args:
        root_bus: the nodes on bus 0 by device number.

    SeaBIOS numbers buses depth first, each bus in order of device numbers, and Linux keeps
    the numbers.

    Source: SeaBIOS src/fw/pciinit.c, pci_bios_init_bus_rec(); Linux drivers/pci/probe.c,
    pci_scan_bridge_extend().
    """
    buses = iter(range(1, 0x100))
    found: list[Function] = []
    for slot, node in sorted(root_bus.items()):
        at = Function(node.role, node.model, Bdf(0, 0, slot), hotplug=_has_pciehp(node))
        found += _walk(node, at, buses)
    return tuple(sorted(found, key=lambda function: function.bdf))


def _walk(node: Node, at: Function, buses: Iterator[int]) -> Iterator[Function]:
    yield at
    if isinstance(node, Endpoint):
        return
    if isinstance(node, Expander):
        buses = iter(range(EXPANDER_BUS, 0x100))
    bus = next(buses)
    for child, device, function in _places(node):
        children = Function(
            child.role,
            child.model,
            Bdf(0, bus, device, function),
            parent=node.role,
            multifunction=_is_port(node) and len(node.children) > 1,
            hotplug=_has_pciehp(child),
            bypasses=at.bypasses or isinstance(node, Expander),
        )
        yield from _walk(child, children, buses)


def _is_port(node: Node) -> bool:
    return isinstance(node, RootPort | DownstreamPort)


def _has_pciehp(node: Node) -> bool:
    return isinstance(node, RootPort | DownstreamPort) and node.hotplug


def _places(
    node: RootPort | Switch | DownstreamPort | Bridge | Expander,
) -> Iterator[tuple[Node, int, int]]:
    for index, child in enumerate(node.children):
        if isinstance(node, Switch | Expander):
            yield child, index, 0
        elif isinstance(node, Bridge):
            yield child, index + 1, 0  # slot 0 belongs to the bridge's hotplug controller
        else:
            yield child, 0, index


def grouped(functions: Sequence[Function]) -> tuple[tuple[Function, ...], ...]:
    """Return the IOMMU groups that Linux makes, each in bus order.

    A function joins its bridge unless ACS holds on the whole way up to the root, and joins the
    other functions of its device unless they have ACS.

    Source: drivers/iommu/iommu.c, pci_device_group(); drivers/pci/pci.c, pci_acs_path_enabled().
    """
    ordered = sorted(functions, key=lambda function: function.bdf)
    groups: dict[str, list[Function]] = {}
    home: dict[str, str] = {}
    first: dict[tuple[int, int], str] = {}
    for function in ordered:  # a bridge comes before what is below it
        place = (function.bdf.bus, function.bdf.device)
        eldest = first.setdefault(place, function.role)
        if function.parent is not None and not isolated(function, functions):
            leader = home[function.parent]
        elif function.multifunction and not function.model.acs:
            leader = home.get(eldest, eldest)
        else:
            leader = function.role
        home[function.role] = leader
        groups.setdefault(leader, []).append(function)
    return tuple(tuple(group) for group in groups.values())


def isolated(function: Function, among: Sequence[Function]) -> bool:
    """Return whether ACS keeps a function apart from all bridges above it.

    So it does the VFs of that function: they are where their PF is.
    """
    by_role = {each.role: each for each in among}
    above = by_role.get(function.parent or "")
    return above is None or (above.model.acs and isolated(above, among))
