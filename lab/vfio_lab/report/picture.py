"""A picture of a guest: PCI tree, IOMMU groups as hulls, drivers, and holders of descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from vfio_lab.hw.pci import Bdf
from vfio_lab.hw.topology import INFRASTRUCTURE_ROLES, Topology
from vfio_lab.hw.viommu import Viommu
from vfio_lab.machine.state import OpenFile, PciState, Snapshot
from vfio_lab.report.pages import render

ROW = 30
LEFT = 64
TOP = 56
INDENT = 22
WIDTH = 860
HUES = 8
CDEVS = "/dev/vfio/devices/"
GROUPS = "/dev/vfio/"
NO_IOMMU = "noiommu-"
CONTAINER = "/dev/vfio/vfio"


@dataclass(frozen=True)
class FunctionRow:
    """One PCI function of the picture.

    Args:
        depth: the number of bridges above it.
        bdf: the address, without the domain.
        role: the function's name in the lab.
        what: the model.
        driver: the driver's name, empty if unbound.
        group: the number of the IOMMU group, empty if there is none.
        holders: `user fd` of each descriptor that refers to this device or its group.
    """

    depth: int
    bdf: str
    role: str
    what: str
    driver: str = ""
    group: str = ""
    holders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hull:
    """Adjacent rows that share an IOMMU group.

    Args:
        group: the group's number.
        first: the index of the first row.
        count: the number of rows.
        hue: the number of the colour, below `HUES`.
    """

    group: str
    first: int
    count: int
    hue: int


@dataclass(frozen=True)
class Picture:
    """The contents of a picture.

    Args:
        title: a short description of the machine.
        viommu: the virtual IOMMU, empty if there is none.
        rows: the functions from top to bottom.
        held: descriptors that belong to no row: containers, iommufds.
    """

    title: str
    viommu: str
    rows: tuple[FunctionRow, ...]
    held: tuple[str, ...] = field(default=())

    @cached_property
    def hulls(self) -> tuple[Hull, ...]:
        """The groups' hulls; a group whose rows are not adjacent has several."""
        hues: dict[str, int] = {}
        hulls: list[Hull] = []
        for index, row in enumerate(self.rows):
            if not row.group:
                continue
            hue = hues.setdefault(row.group, len(hues) % HUES)
            last = hulls[-1] if hulls else None
            if last and last.group == row.group and last.first + last.count == index:
                hulls[-1] = Hull(row.group, last.first, last.count + 1, hue)
            else:
                hulls.append(Hull(row.group, index, 1, hue))
        return tuple(hulls)

    def svg(self) -> str:
        """Return an SVG document that adapts to the reader's light or dark mode."""
        height = TOP + ROW * len(self.rows) + (44 if self.held else 16)
        sizes = {"row": ROW, "left": LEFT, "top": TOP, "indent": INDENT}
        return render("picture.svg", picture=self, width=WIDTH, height=height, **sizes)


def picture(topology: Topology, seen: Snapshot | None = None) -> Picture:
    """Return the picture of a guest.

    Args:
        topology: the guest's hardware.
        seen: a snapshot of the guest; without it only the hardware is drawn.
    """
    functions = {} if seen is None else {entry.bdf: entry for entry in seen.functions}
    held = () if seen is None else seen.held
    rows = tuple(_rows(topology, functions, held))
    viommu = "" if topology.viommu is Viommu.NONE else topology.viommu.value
    return Picture(f"{topology.name}: {topology.summary}", viommu, rows, tuple(_elsewhere(held)))


def _rows(
    topology: Topology, seen: Mapping[str, PciState], held: Sequence[OpenFile]
) -> Iterator[FunctionRow]:
    promised = _promised(topology)

    def walk(above: str | None, depth: int) -> Iterator[FunctionRow]:
        for function in (endpoint for endpoint in topology.endpoints if endpoint.parent == above):
            bdf = str(function.bdf)
            what = f"{function.model.qemu} {function.model.ids}"
            if bdf in seen or not seen:
                blank = PciState(bdf, "", "", "", promised.get(function.role, ""), "")
                yield _row(depth, function.role, what, seen.get(bdf, blank), held)
            vfs = [other for other in seen.values() if other.physfn == bdf]
            for index, vf in enumerate(vfs):
                name = f"{function.role} vf{index}"
                yield _row(depth + 1, name, f"VF {vf.vendor}:{vf.device}", vf, held)
            yield from walk(function.role, depth + 1)

    yield from walk(None, 0)
    count = len(topology.functions) - len(topology.endpoints)
    yield FunctionRow(0, "", f"the lab's own {count} devices", "")


def _row(
    depth: int, role: str, what: str, function: PciState, held: Sequence[OpenFile]
) -> FunctionRow:
    mine = {
        function.bdf,
        f"{GROUPS}{function.iommu_group}",
        f"{GROUPS}{NO_IOMMU}{function.iommu_group}",
        f"{CDEVS}{function.cdev}",
    }
    holders = tuple(f"{file.user} {file.fd}" for file in held if file.what in mine)
    bdf = Bdf.parse(function.bdf).short
    return FunctionRow(depth, bdf, role, what, function.driver, function.iommu_group, holders)


def _promised(topology: Topology) -> dict[str, str]:
    """Return letters for a topology's expected groups; only the guest knows their numbers."""
    groups = [group for group in topology.groups if group[0].role not in INFRASTRUCTURE_ROLES]
    return {
        function.role: chr(ord("A") + index)
        for index, group in enumerate(groups)
        for function in group
    }


def _elsewhere(held: Sequence[OpenFile]) -> Iterator[str]:
    """Yield descriptors that refer to neither a device nor a group."""
    for file in held:
        path = PurePosixPath(file.what)
        if file.what == CONTAINER or (path.is_absolute() and not path.is_relative_to("/dev/vfio")):
            yield f"{file.user} {file.fd}: {file.what}"
