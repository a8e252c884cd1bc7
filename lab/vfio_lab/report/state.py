"""The state of a machine at each call, as the recorded calls and the last snapshot imply it.

A snapshot is taken at the end of a scenario only. What was so before follows from the calls: who
opened and closed what, which driver was bound, which VFs were made, what is attached and mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vfio_lab.client.transcript import UNANSWERED_AT_DEATH
from vfio_lab.uapi import vfio, vfio_type1

Change = tuple[Any, ...]
FATAL = frozenset({"", "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGSEGV", "SIGABRT"})
DUPLICATES = frozenset({0, 1030})  # F_DUPFD, F_DUPFD_CLOEXEC
IOMMUS = {1: "Type1", 3: "Type1v2", 8: "no-IOMMU"}
UNMAP_ALL = vfio_type1.VFIO_DMA_UNMAP_FLAG_ALL
ALL = (1 << 64) - 1
FIXED = {"eventfd2": "eventfd", "KVM_CREATE_VM": "KVM VM"}
SETTINGS = {
    "VFIO_GROUP_SET_CONTAINER": ("container", "in container {fd}"),
    "VFIO_GROUP_UNSET_CONTAINER": ("container", ""),
    "VFIO_DEVICE_BIND_IOMMUFD": ("iommufd", "bound to iommufd {iommufd}"),
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT": ("attached", "attached to {pt_id}"),
    "VFIO_DEVICE_DETACH_IOMMUFD_PT": ("attached", ""),
    "mmap": ("mapped", "mapped by the CPU"),
}
MAPS = frozenset({"VFIO_IOMMU_MAP_DMA", "IOMMU_IOAS_MAP", "IOMMU_IOAS_MAP_FILE"})
UNMAPS = frozenset({"VFIO_IOMMU_UNMAP_DMA", "IOMMU_IOAS_UNMAP"})
GET_DMA_BUF = vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_DMA_BUF


@dataclass
class OpenDescriptor:
    """A descriptor of a process.

    Args:
        what: the path, or the address of a device that came from a group.
        notes: what it is set to, by the kind of setting.
        maps: the size of each DMA mapping, by IOVA.
    """

    what: str
    notes: dict[str, str] = field(default_factory=dict)
    maps: dict[int, int] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What it is set to, in words."""
        words = [*filter(None, self.notes.values())]
        if self.maps:
            words.append(f"{len(self.maps)} mapped, {sum(self.maps.values()):#x} bytes")
        return ", ".join(words)


class Descriptors:
    """The descriptors of all processes; each call changes some."""

    def __init__(self) -> None:
        self.tables: dict[int, dict[int, OpenDescriptor]] = {}

    def after(self, call: Mapping[str, Any]) -> Iterator[Change]:
        """Take a call and yield its changes.

        `open`, pid, fd, what, note; `close`, pid, fd; `gone`, pid.
        """
        pid, name = call["pid"], call["call"]
        arguments, value = call["arguments"], call["value"]
        table = self.tables.setdefault(pid, {})
        killed = name == "kill" and arguments.get("signal", "") in FATAL
        if killed or call["result"] == UNANSWERED_AT_DEATH:
            yield from self._gone(pid)
        elif call["errno"] or not isinstance(value, int):
            return
        elif name == "fork":
            self.tables[value] = dict(table)
            yield from (_opened(value, fd, one) for fd, one in table.items())
        elif name == "close":
            if table.pop(arguments["fd"], None):
                yield "close", pid, arguments["fd"]
        elif made := _made(table, name, arguments):
            table[value] = made
            yield _opened(pid, value, made)
        else:
            yield from self._set(table, pid, call)

    def _gone(self, pid: int) -> Iterator[Change]:
        self.tables.pop(pid, None)
        yield "gone", pid

    def _set(
        self, table: Mapping[int, OpenDescriptor], pid: int, call: Mapping[str, Any]
    ) -> Iterator[Change]:
        """Take a call that changes what a descriptor is set to."""
        one = table.get(call["arguments"].get("fd", -1))
        if one is None:
            return
        before = one.note
        _note_settings(one, call)
        if one.note != before:
            yield from (_opened(pid, fd, each) for fd, each in table.items() if each is one)


def _opened(pid: int, fd: int, one: OpenDescriptor) -> Change:
    return "open", pid, fd, one.what, one.note


def _made(
    table: Mapping[int, OpenDescriptor], name: str, arguments: Mapping[str, Any]
) -> OpenDescriptor | None:
    """Return what a call that succeeded opened, or the descriptor that it duplicated."""
    if name == "dup" or (name == "fcntl" and arguments["cmd"] in DUPLICATES):
        return table.get(arguments["oldfd" if name == "dup" else "fd"])
    what = FIXED.get(name, "")
    if name == "open":
        what = arguments["pathname"]
    elif name == "VFIO_GROUP_GET_DEVICE_FD":
        what = _fields(arguments)["name"].split(" ")[0]
    elif name == "VFIO_DEVICE_FEATURE" and _fields(arguments)["flags"] == GET_DMA_BUF:
        what = "dma-buf"
    return OpenDescriptor(what) if what else None


def _fields(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of an ioctl's struct."""
    argument = arguments.get("arg")
    return argument["fields"] if isinstance(argument, dict) and "fields" in argument else {}


def _note_settings(one: OpenDescriptor, call: Mapping[str, Any]) -> None:
    """Note on a descriptor what a call on it has set."""
    given = _fields(call["arguments"])
    name = call["call"]
    if name in SETTINGS:
        kind, words = SETTINGS[name]
        one.notes[kind] = words.format_map({**given, **_fields(call["answer"])})
    elif name == "VFIO_SET_IOMMU":
        kind = call["arguments"]["arg"]
        one.notes["iommu"] = IOMMUS.get(kind, f"IOMMU {kind}")
    elif name == "VFIO_DEVICE_SET_IRQS":
        state = "set" if given["count"] else "off"
        one.notes[f"irq {given['index']}"] = f"IRQ {given['index']} {state}"
    elif name in MAPS:
        iova = _fields(call["answer"]).get("iova", given["iova"])
        one.maps[iova] = given["length"] if "length" in given else given["size"]
    elif name in UNMAPS:
        _unmap(one, given)


def _unmap(one: OpenDescriptor, given: Mapping[str, Any]) -> None:
    size = given["length"] if "length" in given else given["size"]
    every = given.get("flags", 0) & UNMAP_ALL or size == ALL
    for iova in [*one.maps]:
        if every or given["iova"] <= iova < given["iova"] + size:
            del one.maps[iova]


def descriptor_changes(calls: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, list[Change]]]:
    """Yield the changes of each call that has some, with the call's place among the calls.

    A call takes effect when it ends; one whose record is malformed changes nothing.
    """
    descriptors = Descriptors()
    for index, call in enumerate(calls):
        try:
            changes = list(descriptors.after(call))
        except (KeyError, TypeError, AttributeError, ValueError):
            continue
        if changes:
            yield index, changes
