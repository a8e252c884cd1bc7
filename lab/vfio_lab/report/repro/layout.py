"""Long lines of C, broken as the kernel's style has it."""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDTH = 100
TAB = 8
INITIALIZER = re.compile(r"^(\t*)(.*? = (?:\([^)]*\))?)\{ (\..*) \}([;,])$")
# Commas outside of strings.
PIECES = re.compile(r'((?:"(?:\\.|[^"\\])*"|[^,"])*,?)')


def broken(line: str) -> Iterator[str]:
    """Yield a line, or the lines that it is broken into."""
    if len(line.expandtabs(TAB)) <= WIDTH:
        yield line
        return
    indent = line[: len(line) - len(line.lstrip("\t"))]
    if match := INITIALIZER.match(line):
        yield f"{match[1]}{match[2]}{{"
        for member in _members(match[3]):
            yield from broken(f"{indent}\t{member},")
        yield f"{indent}}}{match[4]}"
        return
    yield from _filled(line.lstrip("\t"), indent)


def _filled(text: str, indent: str) -> Iterator[str]:
    row = indent
    for piece in _pieces(text):
        longer = f"{row}{'' if row.endswith(chr(9)) else ' '}{piece}"
        if row.strip() and len(longer.expandtabs(TAB)) > WIDTH:
            yield row
            row = f"{indent}\t\t{piece}"
        else:
            row = longer if row.strip() else f"{row}{piece}"
    yield row


def _members(text: str) -> Iterator[str]:
    """Yield the members of an initializer, those in inner braces together."""
    member = ""
    for piece in _pieces(text):
        member = f"{member} {piece}".strip()
        if member.count("{") == member.count("}"):
            yield member.rstrip(",")
            member = ""


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in PIECES.findall(text) if piece.strip()]
