"""The arguments and answers of a call as rows: a field's name, what was given, what came back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vfio_lab.report.repro import names
from vfio_lab.report.tolerant import printable

MOST_ROWS = 64
MOST_BYTES = 48
LONGEST_WORD = 160
LARGEST_DECIMAL = 0xFFFF
WHOLE_PAGES = range(0x1000, 0x10000, 0x1000)
AS_HEX = frozenset({"flags", "offset", "vaddr", "iova", "user_va", "addr", "address", "out_phys"})
NAMED = frozenset({"flags", "index"})
LEFT_OUT = frozenset({"request", "timeout_ms", "last_words"})
FLAGS = {
    ("open", "flags"): names.OPEN,
    ("mmap", "prot"): names.PROT,
    ("mmap", "flags"): names.MAP,
}
# Their text says all that there is to say.
PLAIN_CALLS = frozenset({"access", "close", "dup", "listdir", "readlink", "write_file"})
FieldRow = tuple[str, ...]


def field_rows(call: Mapping[str, Any]) -> list[FieldRow]:
    """Return the rows of a call: name, value given and, if it differs, the value answered.

    Args:
        call: a record of `calls.jsonl`.
    """
    if call.get("call") in PLAIN_CALLS:
        return []
    given = dict(_arguments(call, call.get("arguments")))
    answered = dict(_arguments(call, call.get("answer")))
    rows: list[FieldRow] = [
        (name, value, *([answered[name]] if answered.get(name, value) != value else []))
        for name, value in given.items()
    ]
    rows += [(name, "", value) for name, value in answered.items() if value and name not in given]
    left = len(rows) - MOST_ROWS
    return [*rows[:MOST_ROWS], (f"{left} more are in calls.jsonl", "")] if left > 0 else rows


def _arguments(call: Mapping[str, Any], values: object) -> Iterator[tuple[str, str]]:
    """Yield the rows of a call's arguments or answers; a struct's fields begin with a dot."""
    for name, value in (values if isinstance(values, dict) else {}).items():
        if name not in LEFT_OUT:
            whole = "" if name == "arg" and isinstance(value, dict) and "struct" in value else name
            yield from _flat(printable(whole), value, call)


def _flat(
    prefix: str, value: Any, call: Mapping[str, Any], struct: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the leaves of a value with their names; of a struct those of the kernel."""
    match value:
        case {"struct": str(name), "fields": dict(fields), **rest}:
            yield from _flat(prefix, {**fields, **rest}, call, name)
        case {"size": int(size), "bytes": str(data)}:
            yield prefix, _bytes(size, data)
        case {"to": there}:
            yield from _flat(f"*{prefix}", there, call)
        case dict():
            for name, inner in value.items():
                yield from _flat(f"{prefix}.{printable(name)}", inner, call, struct)
        case [dict(), *_]:
            for index, inner in enumerate(value):
                yield from _flat(f"{prefix}[{index}]", inner, call)
        case list():
            yield prefix, _cut(", ".join(map(printable, value)))
        case _:
            yield prefix, _word(prefix.rpartition(".")[2], value, call, struct)


def _word(name: str, value: object, call: Mapping[str, Any], struct: str) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return _cut(printable(value))
    large = value > LARGEST_DECIMAL or value in WHOLE_PAGES
    plain = f"{value:#x}" if large or (value and name in AS_HEX) else str(value)
    called = plain
    if struct and name in NAMED and value >= 0:
        called = names.field(struct, name, value)
    elif value and (given := FLAGS.get((str(call.get("call")), name))):
        called = names.flags(value, given)
    elif name == "arg":
        called = names.argument(str(call.get("call")), value)
    said = called.removesuffix("ULL")
    return plain if said in (str(value), f"{value:#x}") else f"{plain} {said}"


def _bytes(size: int, data: str) -> str:
    """Return bytes in hex; the record leaves out the zeros at their end."""
    if not data:
        return f"{size} bytes of zeros" if size else "no bytes"
    pairs = [printable(data[at : at + 2]) for at in range(0, min(len(data), 2 * MOST_BYTES), 2)]
    more = f" ... ({size} bytes)" if size > len(pairs) else ""
    return " ".join(pairs) + more


def _cut(text: str) -> str:
    return (
        text if len(text) <= LONGEST_WORD else f"{text[:LONGEST_WORD]}... ({len(text)} characters)"
    )
