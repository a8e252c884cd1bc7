"""Evidence read so that nothing in it can harm the report: too long, cut short, or no text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vfio_lab.errors import UNPRINTABLE

MOST_BYTES = 32 << 20
LONGEST_LINE = 4 << 20
_UNPRINTABLE = re.compile(UNPRINTABLE)


def printable(text: object) -> str:
    """Return a value as text in which characters that a terminal or a browser obeys are escaped."""
    return _UNPRINTABLE.sub(lambda found: ascii(found.group())[1:-1], str(text))


def end_of_file(path: Path, characters: int) -> str:
    """Return the end of a text file, empty if there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 4 * characters))
        return printable(file.read().decode(errors="replace")[-characters:])


def json_in(path: Path) -> Any:
    """Return the content of a JSON file, None if it is absent, malformed or too large."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        return json.loads(path.read_bytes().decode(errors="replace"))
    except (OSError, ValueError, RecursionError):
        return None


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file with one on each line, without malformed and very long lines."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        whole = True
        while line := file.readline(LONGEST_LINE):
            follows, whole = not whole, line.endswith(b"\n") or len(line) < LONGEST_LINE
            if follows or not whole:
                continue
            try:
                found = json.loads(line.decode(errors="replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                yield found
