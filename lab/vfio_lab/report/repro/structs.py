"""The memory that a call is given, as C: structs by their fields, what follows them, bytes."""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vfio_lab.evidence.decode import FEATURES
from vfio_lab.report.repro import names
from vfio_lab.report.repro.memory import ID_FIELDS, Process
from vfio_lab.report.repro.recording import CannotWrite
from vfio_lab.uapi import vfio, vfio_type1

TAILS = frozenset({"data", "group_fds", "devices", "dma_ranges", "capabilities"})
FD_FIELDS = frozenset({"fd", "iommufd", "dmabuf_fd", "wakeup_eventfd"})
ELSEWHERE = ("offset", "cap_offset", "out_phys")  # another value on each machine
# Where an address is a pointer and not a number.
WITH_POINTER = frozenset({"vfio_bitmap", "vfio_iommu_type1_dirty_bitmap_get"})
EVENTFD = 1 << 2  # VFIO_IRQ_SET_DATA_EVENTFD
LONGEST_COMPARED = 64
LINE_BYTES = 12
Value = Any
Part = tuple[int, str, str | list[str]]  # size in bytes, C type, content
RANGE = vfio.vfio_region_dma_range
TAIL_STRUCTS: Mapping[str, type[ctypes.Structure]] = {
    "vfio_iommu_type1_dirty_bitmap": vfio_type1.vfio_iommu_type1_dirty_bitmap_get,
    "vfio_iommu_type1_dma_unmap": vfio_type1.vfio_bitmap,
}


@dataclass
class Memory:
    """What stands for a pointer argument.

    Args:
        expression: the argument.
        lines: the declarations that come before the call.
        struct: the variable with the struct's fields in it, empty if it has none.
        kind: the struct's C type.
        buffers: variable and content of the memory that the struct's pointers lead to.
    """

    expression: str
    lines: list[str] = field(default_factory=list)
    struct: str = ""
    kind: str = ""
    buffers: list[tuple[str, Value]] = field(default_factory=list)


class Writer:
    """Writes arguments of one call.

    Args:
        process: whose call it is.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.buffers: list[tuple[str, Value]] = []

    def memory(self, name: str, value: Mapping[str, Value]) -> Memory:
        """Return an argument that is in memory.

        Args:
            name: what to call the variable.
            value: as calls.jsonl has it.

        Raises:
            CannotWrite: it has something that has no form in C here.
        """
        if "struct" not in value:
            self.buffer(name, value)
            return Memory(name, self.lines)
        kind, fields = value["struct"], value["fields"]
        if kind == "container_fd":
            self.lines.append(f"int {name} = {self.process.fd(fields['fd'])};")
            return Memory(f"&{name}", self.lines)
        return self._struct(name, kind, fields, value.get("rest"))

    def buffer(self, name: str, value: Mapping[str, Value] | str) -> None:
        """Declare bytes."""
        raw = raw_bytes(value)
        size = value["size"] if isinstance(value, Mapping) else len(raw)
        start = f"aligned8 __u8 {name}[{max(1, size)}] = "
        if not any(raw):
            self.lines.append(f"{start}{{ 0 }};")
            return
        self.lines += [f"{start}{{", *(f"\t{row}" for row in byte_rows(raw)), "};"]

    def _struct(self, name: str, kind: str, fields: Mapping[str, Value], rest: Value) -> Memory:
        tail = {key: value for key, value in fields.items() if _is_tail(key, value)}
        if any(tail.values()) or rest:
            return self._with_tail(name, kind, fields, tail, rest)
        inner = self._initializer(kind, name, fields)
        self.lines.append(f"struct {kind} {name} = {inner};")
        return Memory(f"&{name}", self.lines, name, kind, self.buffers)

    def _with_tail(
        self,
        name: str,
        kind: str,
        fields: Mapping[str, Value],
        tail: Mapping[str, Value],
        rest: Value,
    ) -> Memory:
        room = f"{name}_room"
        parts = [
            part
            for key, value in tail.items()
            if value
            for part in self._tail_parts(kind, fields, key, value)
        ]
        extra = sum(size for size, _, _ in parts) + (rest["size"] if rest else 0)
        if rest and raw_bytes(rest):
            self.buffer(f"{name}_rest", rest)
        self.lines.append(f"aligned8 __u8 {room}[sizeof(struct {kind}) + {extra}] = {{ 0 }};")
        self.lines.append(f"struct {kind} *{name} = (void *){room};")
        at = 0
        moves = []
        for part in parts:
            moves.append(self._move(name, part, at))
            at += part[0]
        if rest and raw_bytes(rest):
            moves.append(f"memcpy((char *)({name} + 1) + {at}, {name}_rest, sizeof({name}_rest));")
        inner = self._initializer(kind, name, {k: v for k, v in fields.items() if k not in tail})
        self.lines += [f"*{name} = (struct {kind}){inner};", *moves]
        return Memory(room, self.lines, f"(*{name})", kind, self.buffers)

    def _tail_parts(
        self, kind: str, fields: Mapping[str, Value], key: str, value: Value
    ) -> list[Part]:
        """Return size in bytes, C type and content of what follows a struct."""
        if key == "group_fds":
            return [(4 * len(value), "int", [self.process.fd(one) for one in value])]
        if key == "data" and kind == "vfio_irq_set":
            if fields["flags"] & EVENTFD:
                return [(4 * len(value), "int", [self.process.fd(one) for one in value])]
            return [(len(value), "__u8", [str(one) for one in value])]
        if isinstance(value, str):
            raw = uuid.UUID(value).bytes
            return [(len(raw), "__u8", [f"{one:#04x}" for one in raw])]
        if isinstance(value, Mapping) and "bytes" not in value:
            return self._tail_struct(kind, fields, value)
        if key == "devices" and not any(any(one.values()) for one in value):
            return [(ctypes.sizeof(vfio.vfio_pci_dependent_device) * len(value), "__u8", ["0"])]
        raise CannotWrite(f"struct {kind} is followed by {key}")

    def _tail_struct(
        self, kind: str, fields: Mapping[str, Value], value: Mapping[str, Value]
    ) -> list[Part]:
        found = TAIL_STRUCTS.get(kind) or FEATURES.get(
            fields.get("flags", 0) & vfio.VFIO_DEVICE_FEATURE_MASK
        )
        if found is None:
            raise CannotWrite(f"struct {kind} is followed by an unknown struct")
        struct = found.__name__
        parts: list[Part] = [
            (ctypes.sizeof(found), f"struct {struct}", self._initializer(struct, "inner", value))
        ]
        if ranges := value.get("dma_ranges"):
            content = [self._initializer(RANGE.__name__, "inner", one) for one in ranges]
            size = ctypes.sizeof(RANGE) * len(ranges)
            parts.append((size, f"struct {RANGE.__name__}", content))
        return parts

    def _move(self, name: str, part: Part, at: int) -> str:
        size, kind, content = part
        to = f"(char *)({name} + 1) + {at}" if at else f"{name} + 1"
        if isinstance(content, list):
            items = ", ".join(content)
            count = f"[{size}]" if kind == "__u8" else "[]"
            return f"memcpy({to}, ({kind}{count}){{ {items} }}, {size});"
        tail = f"{name}_tail{at or ''}"
        self.lines.append(f"{kind} {tail} = {content};")
        return f"memcpy({to}, &{tail}, sizeof({tail}));"

    def _initializer(self, kind: str, name: str, fields: Mapping[str, Value]) -> str:
        parts = [
            f".{key} = {text}"
            for key, value in fields.items()
            if not _is_tail(key, value) and (text := self._field(kind, name, key, value))
        ]
        return f"{{ {', '.join(parts)} }}" if parts else "{ 0 }"

    def _field(self, kind: str, name: str, key: str, value: Value) -> str:
        """Return a field's value, empty for zero."""
        if isinstance(value, Mapping):
            if "to" in value:
                return _address_cast(kind) + self._pointer(f"{name}_{key}", value["to"])
            if "bytes" in value:
                if raw_bytes(value):
                    raise CannotWrite(f"the padding of struct {kind} is not zero")
                return ""
            return self._initializer(kind, name, value)
        if isinstance(value, list):
            inner = [self._field(kind, name, "", one) or "0" for one in value]
            return f"{{ {', '.join(inner)} }}" if any(one != "0" for one in inner) else ""
        return self._number(kind, key, value) if value else ""

    def _pointer(self, name: str, there: Value) -> str:
        if isinstance(there, str):
            self.buffer(name, {"size": 16, "bytes": uuid.UUID(there).bytes.hex()})
        elif isinstance(there, list):
            rows_ = [self._initializer("iommu_iova_range", name, one) for one in there]
            self.lines.append(f"struct iommu_iova_range {name}[] = {{ {', '.join(rows_)} }};")
        else:
            self.buffer(name, there)
            self.buffers.append((name, there))
        return name

    def _number(self, kind: str, key: str, value: int) -> str:
        if key in FD_FIELDS:
            return self.process.fd(value)
        if key.endswith("_id") or key in ID_FIELDS:
            return self.process.id(value)
        if (pointer := self.process.address(value)) is not None:
            return f"{_address_cast(kind)}({pointer})"
        cast = "(void *)" if kind in WITH_POINTER and key == "data" else ""
        return cast + names.field(kind, key, value)


def _address_cast(kind: str) -> str:
    return "(void *)" if kind in WITH_POINTER else "(uintptr_t)"


def _is_tail(key: str, value: Value) -> bool:
    """Return whether a field is what follows its struct; some structs have one of such a name."""
    pointer = isinstance(value, Mapping) and "to" in value
    return key in TAILS and not isinstance(value, int) and not pointer


def answer_checks(
    memory: Memory, given: Mapping[str, Value], seen: Mapping[str, Value]
) -> Iterator[str]:
    """Yield the comparisons of what a call left in its struct with what was recorded.

    Args:
        memory: the struct in the program.
        given: the struct in the record, before the call.
        seen: the same after it.
    """
    before, after = given.get("fields", {}), seen.get("fields", {})
    for key, value in after.items():
        steady = not (key in ID_FIELDS or key in FD_FIELDS or key.endswith(("_id", "devid", "_fd")))
        if isinstance(value, int) and value != before.get(key) and steady and key not in TAILS:
            if key in ELSEWHERE:
                continue
            if (memory.kind, key) == ("iommu_ioas_map", "iova"):
                raise CannotWrite("the kernel chooses an address, another one each time")
            expected = names.field(memory.kind, key, value)
            yield f"EXPECT_VALUE({expected}, {memory.struct}.{key});"

    for there, left in _pointed(before, after):
        if isinstance(left, Mapping) and "bytes" in left and left != there:
            name = next(name for name, content in memory.buffers if content is there)
            size = min(left["size"], LONGEST_COMPARED)
            yield from constant_bytes(f"{name}_expected", raw_bytes(left)[:size], size)
            yield f"EXPECT_BYTES({name}_expected, {name}, {size});"


def _pointed(
    before: Mapping[str, Value], after: Mapping[str, Value]
) -> Iterator[tuple[Value, Value]]:
    """Yield what the pointers of a struct led to, before a call and after it."""
    for key, value in before.items():
        seen = after.get(key)
        if isinstance(value, Mapping) and isinstance(seen, Mapping):
            if "to" in value:
                yield value["to"], seen.get("to")
            else:
                yield from _pointed(value, seen)


def constant_bytes(name: str, raw: bytes, size: int) -> Iterator[str]:
    """Yield the declaration of bytes that are compared or written.

    Args:
        name: the variable.
        raw: the bytes without the zeros at their end.
        size: how many there are, zeros included.
    """
    if any(raw):
        yield f"static const __u8 {name}[{max(1, size)}] = {{"
        yield from (f"\t{row}" for row in byte_rows(raw))
        yield "};"
    else:
        yield f"static const __u8 {name}[{max(1, size)}] = {{ 0 }};"


def raw_bytes(value: Mapping[str, Value] | str) -> bytes:
    """Return the bytes of a value without the zeros at their end."""
    return value.encode() if isinstance(value, str) else bytes.fromhex(value["bytes"])


def byte_rows(raw: bytes) -> Iterator[str]:
    """Yield bytes as rows of an initializer."""
    for at in range(0, len(raw), LINE_BYTES):
        yield ", ".join(f"{one:#04x}" for one in raw[at : at + LINE_BYTES]) + ","
