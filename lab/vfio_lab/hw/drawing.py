"""A topology as text: its PCI tree, and a bracket beside each IOMMU group."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from vfio_lab.hw.topology import INFRASTRUCTURE_ROLES, Topology
from vfio_lab.hw.tree import Bar, Function, isolated
from vfio_lab.hw.viommu import Viommu

WIDTH = 80
GROUP_COLUMN = 70
MODEL_COLUMN = 29
EACH = "one each"
UNBROKEN = "\0"  # keeps a name and its address on one line


@dataclass(frozen=True)
class _Row:
    """One line of the tree.

    Args:
        tree: branches and what hangs there.
        what: the device.
        group: the IOMMU group's letter, `EACH` for many that have one each, empty for none.
    """

    tree: str
    what: str
    group: str


def drawing(topology: Topology) -> str:
    """Return a topology drawn for a terminal of 80 columns, without a final newline."""
    rows = list(_rows(topology))
    head = f"{'pcie.0':{MODEL_COLUMN}}{_translator(topology)}"
    if topology.groups:
        head = f"{head:{GROUP_COLUMN}}group"
    lines = [
        f"{topology.name}: {topology.summary}",
        "",
        head,
        *(_line(rows, index) for index in range(len(rows))),
        "",
        *_facts(topology),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _translator(topology: Topology) -> str:
    return "no vIOMMU" if topology.viommu is Viommu.NONE else topology.viommu.value


def _rows(topology: Topology) -> Iterator[_Row]:
    functions = topology.endpoints
    letters = _letters(topology)

    def walk(function: Function, branch: str, indent: str) -> Iterator[_Row]:
        group = letters.get(function.role, "")
        yield _Row(f"{branch}{function.bdf.short} {function.role}", _what(function), group)
        children = _below(function, functions)
        for number, child in enumerate(children, start=1):
            last = number == len(children)
            onward = indent + ("   " if last else "│  ")
            yield from walk(child, indent + ("└─ " if last else "├─ "), onward)
        if (sriov := function.model.sriov) is not None:
            many = f"up to {sriov.total_vfs} VFs, {function.vendor:04x}:{sriov.device:04x}"
            if group and isolated(function, functions):
                group = EACH
            yield _Row(f"{indent}└┄ {function.vf(0).short} ...", many, group)

    for root in _below(None, functions):
        yield from walk(root, "├─ ", "│  ")
    yield _Row("└─ the lab's own, see below", "", EACH if topology.groups else "")


def _below(bridge: Function | None, functions: Sequence[Function]) -> list[Function]:
    role = None if bridge is None else bridge.role
    return [each for each in functions if each.parent == role]


def _letters(topology: Topology) -> dict[str, str]:
    # Letters in the order of the drawing, because the numbers are the guest's to give.
    def walk(bridge: Function | None) -> Iterator[str]:
        for function in _below(bridge, topology.endpoints):
            yield function.role
            yield from walk(function)

    group_of = {each.role: group[0].role for group in topology.groups for each in group}
    names = iter(ascii_uppercase)
    letters: dict[str, str] = {}
    for role in walk(None):
        if role in group_of:
            leader = group_of[role]
            letters[role] = letters[leader] if leader in letters else next(names)
    return letters


def _what(function: Function) -> str:
    words = f"{function.model.qemu} {function.model.ids}"
    if function.is_slot:
        words += ", slot reset" if function.hotplug else ", bus reset"
    return words


def _line(rows: Sequence[_Row], index: int) -> str:
    row = rows[index]
    text = f"{row.tree:{MODEL_COLUMN - 1}} {row.what}"
    if not row.group:
        return text
    if row.group == EACH:
        return f"{text:{GROUP_COLUMN}}─ {EACH}"
    before = index > 0 and rows[index - 1].group == row.group
    after = index + 1 < len(rows) and rows[index + 1].group == row.group
    bracket = {(False, False): "─", (False, True): "┐", (True, True): "│", (True, False): "┘"}
    label = "" if before else f" {row.group}"
    return f"{text:{GROUP_COLUMN}}{bracket[before, after]}{label}"


def _bars(topology: Topology) -> Iterator[str]:
    """Yield the BARs of each device, those of devices alike together."""
    roles: dict[tuple[Bar, ...], list[str]] = {}
    for function in topology.endpoints:
        roles.setdefault(function.model.bars, []).append(function.role)
        if (sriov := function.model.sriov) is not None:
            roles.setdefault(sriov.bars, []).append(f"VFs of {function.role}")
    for bars, alike in roles.items():
        if bars:
            yield f"{', '.join(alike)}: {', '.join(map(str, bars))}"


def _facts(topology: Topology) -> Iterator[str]:
    cpus = f"{topology.cpus} CPU{'s' if topology.cpus > 1 else ''}"
    infrastructure = ", ".join(
        f"{function.role}{UNBROKEN}{function.bdf.short}"
        for function in topology.functions
        if function.role in INFRASTRUCTURE_ROLES
    )
    facts = {
        "BARs": list(_bars(topology)),
        "guest": [f"{cpus}, {topology.memory_mib} MiB"],
        "kernel": [" ".join(topology.kernel_args)],
        "template": ["yes" if topology.freezable else f"no, boots afresh: {topology.unmigratable}"],
        "the lab's": [infrastructure],
    }
    for name, values in facts.items():
        for number, value in enumerate(values):
            yield from _wrapped("" if number else name, value)


def _wrapped(heading: str, text: str) -> Iterator[str]:
    lines = textwrap.wrap(text, WIDTH, initial_indent=f"{heading:11}", subsequent_indent=" " * 11)
    return (line.replace(UNBROKEN, " ") for line in lines)
