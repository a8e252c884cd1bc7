"""The functions of a machine: PCI tree, groups and drivers, and how they change with the calls."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vfio_lab.hw.pci import Bdf
from vfio_lab.hw.topology import INFRASTRUCTURE_ROLES, Topology
from vfio_lab.hw.tree import Function
from vfio_lab.hw.viommu import Viommu
from vfio_lab.machine.state import PciState, Snapshot

DEVICE = r"/sys/bus/pci/devices/([0-9a-f:]+\.[0-7])"
LOOKED_AT = re.compile(rf"{DEVICE}/(driver|iommu_group)")
WRITTEN = re.compile(rf"{DEVICE}/(sriov_numvfs|remove|driver/unbind)")
BOUND = re.compile(r"/sys/bus/pci/drivers/([^/]+)/(bind|unbind)")
MOST_VFS = 64
Change = tuple[Any, ...]


@dataclass(frozen=True)
class FunctionRow:
    """One PCI function of the picture.

    Args:
        depth: the number of bridges above it.
        bdf: the address.
        role: the function's name in the lab.
        what: the model.
        driver: the driver's name, empty if unbound.
        group: the number of the IOMMU group, empty if there is none.
        cdev: its vfio character device's name, empty if it has none.
        present: whether it is there.
    """

    depth: int
    bdf: str
    role: str
    what: str
    driver: str = ""
    group: str = ""
    cdev: str = ""
    present: bool = True


@dataclass(frozen=True)
class Picture:
    """A machine as it is when a scenario begins, and its changes.

    Args:
        title: a short description of the machine.
        viommu: the virtual IOMMU, empty if there is none.
        rows: the functions from top to bottom, VFs that come later included.
        own: the number of devices that the lab itself needs.
        changes: `driver`, row, name and `there`, row, whether; by the place of the call.
    """

    title: str
    viommu: str
    rows: tuple[FunctionRow, ...]
    own: int
    changes: Mapping[int, Sequence[Change]] = field(default_factory=dict)

    def rows_of(self, what: str) -> list[int]:
        """Return the rows that an open file refers to: a device's own, or all of its group."""
        name = what.removesuffix(" (deleted)")
        return [
            index
            for index, row in enumerate(self.rows)
            if name
            in (
                row.bdf,
                f"/dev/vfio/devices/{row.cdev}",
                f"/dev/vfio/{row.group}",
                f"/dev/vfio/noiommu-{row.group}",
            )
        ]


@dataclass(frozen=True)
class _Fact:
    """What a call says of a function's driver: it `sets` it, or shows what it `is`, or `was`."""

    at: int
    kind: Literal["sets", "is", "was"]
    driver: str


def picture(
    topology: Topology, seen: Snapshot | None = None, calls: Sequence[Mapping[str, Any]] = ()
) -> Picture:
    """Return the picture of a guest.

    Args:
        topology: the guest's hardware.
        seen: a snapshot of the guest at its end; without it only the hardware is drawn.
        calls: the scenario's, as `calls.jsonl` has them.
    """
    last = {} if seen is None else {entry.bdf: entry for entry in seen.functions}
    done = [(at, call) for at, call in enumerate(calls) if _succeeded(call)]
    rows = list(_rows(topology, last, _most_vfs(done)))
    groups = {bdf: name for at, bdf, what, name in _looks(calls) if what == "iommu_group" and name}
    rows = [replace(row, group=row.group or groups.get(row.bdf, "")) for row in rows]
    changes: defaultdict[int, list[Change]] = defaultdict(list)
    facts = _driver_facts(calls, done)
    for index, row in enumerate(rows):
        end = [_Fact(len(calls), "is", row.driver)] if row.bdf in last else []
        rows[index], found = _with_driver(row, [*facts[row.bdf], *end])
        for at, driver in found:
            changes[at].append(("driver", index, driver))
    _add_presence(rows, done, changes)
    viommu = "" if topology.viommu is Viommu.NONE else topology.viommu.value
    own = len(topology.functions) - len(topology.endpoints)
    title = f"{topology.name}: {topology.summary}"
    return Picture(title, viommu, tuple(rows), own, dict(changes))


def _succeeded(call: Mapping[str, Any]) -> bool:
    """Return whether it is a write to a file that succeeded."""
    arguments = call.get("arguments")
    written = call.get("call") == "write_file" and isinstance(arguments, dict)
    return bool(written and not call.get("errno") and call.get("value") is not None)


def _rows(
    topology: Topology, last: Mapping[str, PciState], most_vfs: Mapping[str, int]
) -> Iterator[FunctionRow]:
    """Yield all functions that are there at some time; drivers and groups as at the end."""
    promised = _promised(topology)

    def walk(above: str | None, depth: int) -> Iterator[FunctionRow]:
        for function in (endpoint for endpoint in topology.endpoints if endpoint.parent == above):
            what = f"{function.model.qemu} {function.model.ids}"
            group = "" if last else promised.get(function.role, "")
            row = FunctionRow(depth, str(function.bdf), function.role, what, group=group)
            yield _as_at_the_end(row, last)
            for index, bdf in enumerate(_vfs(function, last, most_vfs)):
                vf = last.get(bdf)
                kind = f"{vf.vendor}:{vf.device}" if vf else _vf_ids(function)
                row = FunctionRow(depth + 1, bdf, f"{function.role} vf{index}", f"VF {kind}")
                yield _as_at_the_end(row, last)
            yield from walk(function.role, depth + 1)

    yield from walk(None, 0)


def _as_at_the_end(row: FunctionRow, last: Mapping[str, PciState]) -> FunctionRow:
    """Return a row with the driver and the group that a function has at the end."""
    seen = last.get(row.bdf)
    if seen is None:
        return replace(row, present=not last)
    return replace(row, driver=seen.driver, group=seen.iommu_group, cdev=seen.cdev)


def _vfs(function: Function, last: Mapping[str, PciState], most: Mapping[str, int]) -> list[str]:
    """Return the addresses of all VFs that a PF has at some time."""
    bdf = str(function.bdf)
    found = {one.bdf for one in last.values() if one.physfn == bdf}
    sriov = function.model.sriov
    if sriov is not None:
        count = min(most.get(bdf, 0), sriov.total_vfs, MOST_VFS)
        found |= {str(function.vf(index)) for index in range(count)}
    return sorted(found, key=Bdf.parse)


def _vf_ids(function: Function) -> str:
    sriov = function.model.sriov
    return f"{function.vendor:04x}:{sriov.device:04x}" if sriov else ""


def _promised(topology: Topology) -> dict[str, str]:
    """Return letters for a topology's expected groups; only the guest knows their numbers."""
    groups = [group for group in topology.groups if group[0].role not in INFRASTRUCTURE_ROLES]
    return {
        function.role: chr(ord("A") + index)
        for index, group in enumerate(groups)
        for function in group
    }


def _numvfs(done: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, str, int]]:
    """Yield the writes that made VFs: the place of the call, the PF, the number of VFs."""
    for at, call in done:
        match = WRITTEN.fullmatch(str(call["arguments"].get("path")))
        number = str(call["arguments"].get("data")).strip()
        if match and match[2] == "sriov_numvfs" and number.isdecimal() and number.isascii():
            yield at, match[1], int(number[:4])


def _most_vfs(done: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, int]:
    most: dict[str, int] = {}
    for _at, pf, count in _numvfs(done):
        most[pf] = max(count, most.get(pf, 0))
    return most


def _looks(calls: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str, str, str]]:
    """Yield what links in sysfs showed: the place of the call, a function, the link, a name."""
    for at, call in enumerate(calls):
        arguments, answer = call.get("arguments"), call.get("answer")
        if call.get("call") != "readlink" or not isinstance(arguments, dict):
            continue
        match = LOOKED_AT.fullmatch(str(arguments.get("path")))
        text = answer.get("text") if isinstance(answer, dict) else None
        if match and (text or call.get("errno") == "ENOENT"):
            yield at, match[1], match[2], str(text or "").rpartition("/")[2]


def _driver_facts(
    calls: Sequence[Mapping[str, Any]], done: Iterable[tuple[int, Mapping[str, Any]]]
) -> defaultdict[str, list[_Fact]]:
    facts: defaultdict[str, list[_Fact]] = defaultdict(list)
    for at, bdf, link, name in _looks(calls):
        if link == "driver":
            facts[bdf].append(_Fact(at, "is", name))
    for at, call in done:
        path, data = (str(call["arguments"].get(name)) for name in ("path", "data"))
        if match := BOUND.fullmatch(path):
            before, after = ("", match[1]) if match[2] == "bind" else (match[1], "")
            facts[data.strip()] += [_Fact(at, "was", before), _Fact(at, "sets", after)]
        elif (match := WRITTEN.fullmatch(path)) and match[2] == "driver/unbind":
            facts[match[1]].append(_Fact(at, "sets", ""))
    for found in facts.values():
        found.sort(key=lambda fact: fact.at)
    return facts


def _with_driver(
    row: FunctionRow, facts: Sequence[_Fact]
) -> tuple[FunctionRow, list[tuple[int, str]]]:
    """Return a row with the driver it has first, and the changes that follow.

    A driver that is seen and was not set came at an unknown time before: it is shown from the
    last thing that is known before.
    """
    now = facts[0].driver if facts else row.driver
    first, changes, since = now, list[tuple[int, str]](), -1
    for fact in facts:
        if fact.driver != now:
            at = fact.at if fact.kind == "sets" else since
            changes.append((max(at, 0), fact.driver))
            now = fact.driver
        since = fact.at
    return replace(row, driver=first), changes


def _add_presence(
    rows: list[FunctionRow],
    done: Sequence[tuple[int, Mapping[str, Any]]],
    changes: defaultdict[int, list[Change]],
) -> None:
    """Let VFs come and go with the writes that made them, and functions go that were removed."""
    for place, pf in enumerate(rows):
        writes = [(at, count) for at, bdf, count in _numvfs(done) if bdf == pf.bdf]
        if not writes:
            continue
        vfs = [index for index, row in enumerate(rows) if row.role.startswith(f"{pf.role} vf")]
        rebound = [at for at in sorted(changes) for one in changes[at] if one[1] == place]
        for number, index in enumerate(vfs):
            goes = not rows[index].present and number < writes[-1][1]
            rows[index] = replace(rows[index], present=writes[0][1] == 0)
            for at, count in writes:
                changes[at].append(("there", index, number < count))
            if goes:  # with its PF's driver, or unseen
                changes[rebound[-1] if rebound else done[-1][0]].append(("there", index, False))
    for index, row in enumerate(rows):
        removed = [at for at, call in done if _removes(call, row.bdf)]
        if removed:
            rows[index] = replace(row, present=True)
            changes[removed[0]].append(("there", index, False))
            if row.present:  # found again, by a rescan of the bus
                back = [at for at, call in done if _rescans(call) and at > removed[-1]]
                changes[back[0] if back else removed[-1]].append(("there", index, True))


def _removes(call: Mapping[str, Any], bdf: str) -> bool:
    match = WRITTEN.fullmatch(str(call["arguments"].get("path")))
    return bool(match and match[2] == "remove" and match[1] == bdf)


def _rescans(call: Mapping[str, Any]) -> bool:
    return str(call["arguments"].get("path")).endswith("rescan")
