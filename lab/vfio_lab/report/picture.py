"""A guest as a picture: PCI tree, IOMMU groups as hulls, drivers, and who holds what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from vfio_lab.hw.pci import Bdf
from vfio_lab.hw.topology import INFRASTRUCTURE_ROLES, Topology, Viommu
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
        depth: bridges above it.
        bdf: its address, without the domain.
        role: its name in the lab.
        what: its model.
        driver: empty if unbound.
        group: its IOMMU group's number, empty if it has none.
        holders: `user fd` of each descriptor that is this device or its group.
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
    """Rows that follow each other and share an IOMMU group.

    Args:
        group: its number.
        first: index of its first row.
        count: how many rows.
        hue: one of `HUES` colours.
    """

    group: str
    first: int
    count: int
    hue: int


@dataclass(frozen=True)
class Picture:
    """What there is to draw.

    Args:
        title: the machine in a few words.
        viommu: what translates DMA, empty if nothing does.
        rows: from top to bottom.
        held: descriptors that belong to no row: containers, iommufds.
    """

    title: str
    viommu: str
    rows: tuple[FunctionRow, ...]
    held: tuple[str, ...] = field(default=())

    @cached_property
    def hulls(self) -> tuple[Hull, ...]:
        """The groups, each as often as its rows are interrupted."""
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
        """Return it as an SVG document that follows the reader's light or dark."""
        height = TOP + ROW * len(self.rows) + (44 if self.held else 16)
        sizes = {"row": ROW, "left": LEFT, "top": TOP, "indent": INDENT}
        return render("picture.svg", picture=self, width=WIDTH, height=height, **sizes)


def picture(topology: Topology, seen: Snapshot | None = None) -> Picture:
    """Return the picture of a guest.

    Args:
        topology: its hardware.
        seen: what it looked like; without it the hardware alone is drawn.
    """
    functions = {} if seen is None else {one.bdf: one for one in seen.functions}
    held = () if seen is None else seen.held
    rows = tuple(_rows(topology, functions, held))
    viommu = "" if topology.viommu is Viommu.NONE else topology.viommu.value
    return Picture(f"{topology.name}: {topology.summary}", viommu, rows, tuple(_elsewhere(held)))


def _rows(
    topology: Topology, seen: Mapping[str, PciState], held: Sequence[OpenFile]
) -> Iterator[FunctionRow]:
    promised = _promised(topology)

    def walk(above: str | None, depth: int) -> Iterator[FunctionRow]:
        for function in (one for one in topology.endpoints if one.parent == above):
            bdf = str(function.bdf)
            what = f"{function.model.qemu} {function.model.ids}"
            if bdf in seen or not seen:
                blank = PciState(bdf, "", "", "", promised.get(function.role, ""), "")
                yield _row(depth, function.role, what, seen.get(bdf, blank), held)
            vfs = [one for one in seen.values() if one.physfn == bdf]
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
    holders = tuple(f"{one.user} {one.fd}" for one in held if one.what in mine)
    bdf = Bdf.parse(function.bdf).short
    return FunctionRow(depth, bdf, role, what, function.driver, function.iommu_group, holders)


def _promised(topology: Topology) -> dict[str, str]:
    """Return letters for the groups that a topology promises; the numbers are the guest's."""
    groups = [group for group in topology.groups if group[0].role not in INFRASTRUCTURE_ROLES]
    return {
        function.role: chr(ord("A") + index)
        for index, group in enumerate(groups)
        for function in group
    }


def _elsewhere(held: Sequence[OpenFile]) -> Iterator[str]:
    """Yield descriptors that are neither a device's nor a group's."""
    for one in held:
        path = PurePosixPath(one.what)
        if one.what == CONTAINER or (path.is_absolute() and not path.is_relative_to("/dev/vfio")):
            yield f"{one.user} {one.fd}: {one.what}"
