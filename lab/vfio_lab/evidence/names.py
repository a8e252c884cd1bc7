"""Names for what a scenario's users hold: descriptors, mappings, tokens, child processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vfio_lab.evidence.rules import (
    CALLS_THAT_OPEN,
    DESCRIPTORS,
    LOWEST_RANDOM_ADDRESS,
    OPENED,
    UUID,
    plain_text,
)
from vfio_lab.uapi import vfio

REGION_SHIFT = 40
REGIONS = ("bar0", "bar1", "bar2", "bar3", "bar4", "bar5", "rom", "config", "vga")
AT_OFFSET = frozenset({"mmap", "pread64", "pwrite64"})


class Names:
    """Turns numbers that a run gives out into names, in the order of the calls."""

    def __init__(self) -> None:
        self._descriptors: dict[int, dict[int, str]] = {}
        self._mappings: dict[int, list[tuple[int, int, str]]] = {}
        self._tokens: dict[str, str] = {}
        self._given = Counter[str]()

    def arguments(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments, named."""
        pid, arguments = record["pid"], record["arguments"]
        named = {name: self.value(pid, name, value) for name, value in arguments.items()}
        if record["syscall"] in AT_OFFSET and str(named.get("fd", "")).startswith("device"):
            named["offset"] = _place(arguments["offset"])
        return self._with_eventfds(record, named)

    def answer(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a call left in memory, named."""
        pid = record["pid"]
        named = {name: self.value(pid, name, value) for name, value in record["answer"].items()}
        return self._with_eventfds(record, named)

    def result(self, record: Mapping[str, Any]) -> str:
        """Return what a call returned, and take note of what it made or closed."""
        value, pid, arguments = record["value"], record["pid"], record["arguments"]
        if record["errno"] is not None or value is None:
            return str(record["errno"] or record["result"])
        call = record["syscall"] or record["call"]
        descriptors = self._descriptors.setdefault(pid, {})
        if call == "close":
            descriptors.pop(arguments["fd"], None)
        elif call == "mmap":
            name = self._new("map")
            self._mappings.setdefault(pid, []).append((value, arguments["length"], name))
            return name
        elif call == "fork":
            self._descriptors[value] = dict(descriptors)
            self._mappings[value] = list(self._mappings.get(pid, ()))
            return "child"
        elif (kind := self._opened(record)) is not None:
            descriptors[value] = self._new(kind)
            return descriptors[value]
        return str(value)

    def value(self, pid: int, name: str, value: Any) -> Any:
        """Return an argument, a field or a text, named.

        Args:
            pid: whose it is.
            name: of the argument or field.
            value: as `calls.jsonl` has it.
        """
        match value:
            case bool():
                return value
            case int():
                return self._number(pid, name, value)
            case str():
                return plain_text(UUID.sub(lambda found: self._token(found[0]), value))
            case list():
                return [self.value(pid, name, one) for one in value]
            case dict() if value.keys() != {
                "size",
                "bytes",
            }:  # hex digits that look like an address
                return {key: self.value(pid, key, one) for key, one in value.items()}
            case _:
                return value

    def _number(self, pid: int, name: str, value: int) -> int | str:
        if name in DESCRIPTORS and value >= 0:
            return self._descriptors.get(pid, {}).get(value, value)
        if value >= LOWEST_RANDOM_ADDRESS:
            for start, size, mapping in reversed(self._mappings.get(pid, [])):
                if start <= value < start + max(size, 1):
                    return f"{mapping}+{value - start:#x}"
        return value

    def _with_eventfds(self, record: Mapping[str, Any], named: dict[str, Any]) -> dict[str, Any]:
        """Name the eventfds that VFIO_DEVICE_SET_IRQS takes as data."""
        match record["call"], named.get("arg"):
            case "VFIO_DEVICE_SET_IRQS", {"fields": {"flags": int(flags), "data": data} as fields}:
                if flags & vfio.VFIO_IRQ_SET_DATA_EVENTFD:
                    pid = record["pid"]
                    fields["data"] = [self._number(pid, "fd", one) for one in data]
        return named

    def _opened(self, record: Mapping[str, Any]) -> str | None:
        """Return what kind of file a call that succeeded has opened, None if none."""
        arguments, value = record["arguments"], record["value"]
        call = record["syscall"] or record["call"]
        if call == "openat":
            path = str(arguments["pathname"])
            return next((kind for where, kind in OPENED if where.fullmatch(path)), "file")
        if call == "dup":
            held = self._descriptors.get(record["pid"], {})
            return held.get(arguments["oldfd"], "file").partition("#")[0]
        if record["call"] == "VFIO_DEVICE_FEATURE" and value > 0:
            return "dma-buf"
        return CALLS_THAT_OPEN.get(record["call"])

    def _token(self, text: str) -> str:
        return self._tokens.setdefault(text, f"token#{len(self._tokens) + 1}")

    def _new(self, kind: str) -> str:
        self._given[kind] += 1
        return kind if self._given[kind] == 1 else f"{kind}#{self._given[kind]}"


def _place(offset: int) -> str:
    """Return an offset into a device file as a region and an offset into that."""
    region, low = offset >> REGION_SHIFT, offset & (1 << REGION_SHIFT) - 1
    name = REGIONS[region] if 0 <= region < len(REGIONS) else f"region {region}"
    return f"{name}+{low:#x}"
