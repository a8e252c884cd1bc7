"""Decoded values in words that fit on a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from vfio_lab.evidence.decode import Decoded, PointerTo
from vfio_lab.uapi.layout import AS_HEX

LONGEST = 240
MOST_BYTES = 32
MOST_CHARACTERS = 80
MOST_ELEMENTS = 6
MOST_IN_DECIMAL = 0xFFFFFFFF


def cut(text: str) -> str:
    """Return a text, cut if it is too long for a line."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def short(value: object) -> str:
    """Return a value in words; the zeros at the end of a struct are `...`."""
    return cut(_word("", value))


def changed(before: Decoded, after: Decoded) -> str:
    """Return the fields that a call changed in its struct, empty if none."""
    words = list(_changes(before.fields, after.fields))
    if after.rest != before.rest:
        words.append(_word("rest", after.rest))
    return cut(f"{{{', '.join(words)}}}") if words else ""


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> Iterable[str]:
    for name, value in after.items():
        was = before.get(name)
        if isinstance(value, dict) and isinstance(was, dict):
            yield from _changes(was, value)
        elif value != was:
            yield f"{name}={_word(name, value)}"


def _word(name: str, value: object) -> str:
    match value:
        case int():
            word = f"{value:#x}" if name in AS_HEX or value > MOST_IN_DECIMAL else str(value)
        case bytes():
            more = f"...({len(value)} bytes)" if len(value) > MOST_BYTES else ""
            word = (value[:MOST_BYTES] if any(value) or not more else b"\0").hex() + more
        case str():
            more = "..." if len(value) > MOST_CHARACTERS else ""
            word = json.dumps(value[:MOST_CHARACTERS], ensure_ascii=False) + more
        case PointerTo(there):
            word = f"&{_word(name, there)}"
        case Decoded(_, fields, rest):
            word = _struct({**fields, "rest": rest} if any(rest) else fields)
        case Mapping():
            word = _struct(value)
        case list():
            words = [_word("", one) for one in value[:MOST_ELEMENTS]]
            left = len(value) - len(words)
            word = f"[{', '.join([*words, f'... {left} more'] if left else words)}]"
        case _:
            word = str(value)
    return word


def _struct(fields: Mapping[str, object]) -> str:
    """Return fields in braces, without the zero fields at the end."""
    kept = list(fields.items())
    while kept and not kept[-1][1]:
        kept.pop()
    words = [f"{name}={_word(name, value)}" for name, value in kept]
    return f"{{{', '.join(words if len(kept) == len(fields) else [*words, '...'])}}}"
