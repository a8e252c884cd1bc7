"""The functions of a C file in the kernel's style, and what differs between two versions of it.

A function's body begins with a line that holds `{` alone and ends with one that begins with `}`.
"""

from __future__ import annotations

import collections
import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from vfio_lab.util.cache import digest

ANNOTATION = re.compile(r"__(attribute__|printf|must_hold|acquires|releases|cond_lock|free)$")
CALLED = re.compile(r"(\w+)\s*\(")
COMMENT = re.compile(r"^\s*(/\*.*|//.*|\*(\s.*|/.*)?)?$")
LABEL = re.compile(r"^\s*(case\b|default\s*:|\w+:\s*(/\*.*)?$)")


@dataclass(frozen=True)
class CFunction:
    """A function of a C file.

    Args:
        name: its name; a second one of that name in the file is `name@2`.
        first: the line number of its declaration.
        last: the line number of its closing brace.
        digest: a digest of its text.
    """

    name: str
    first: int
    last: int
    digest: str


@dataclass(frozen=True)
class Hunk:
    """Lines that are replaced by others.

    Args:
        first: the number of the first removed line, or of the line before which lines are added.
        removed: the removed lines.
        start: the number of the first added line in the new version.
        added: the added lines.
    """

    first: int
    removed: tuple[str, ...]
    start: int
    added: tuple[str, ...]

    @property
    def trivial(self) -> bool:
        """Whether only comments and empty lines change."""
        return all(is_comment(line) for line in (*self.removed, *self.added))


@dataclass(frozen=True)
class FileChange:
    """A file before and after a change.

    Args:
        path: its path in the tree.
        before: its text before, None if it is new.
        after: its text after, None if it is removed.
    """

    path: PurePath
    before: str | None
    after: str | None


def is_comment(line: str) -> bool:
    """Return whether a line is empty or part of a comment."""
    return COMMENT.match(line) is not None


def functions(text: str) -> list[CFunction]:
    """Return the functions of a C file, in their order."""
    lines = text.splitlines()
    seen: collections.Counter[str] = collections.Counter()
    found: list[CFunction] = []
    for number, line in enumerate(lines):
        if line.rstrip() != "{":
            continue
        first = _declaration(lines, number)
        name = _name("\n".join(lines[first:number]))
        last = next((at for at in range(number, len(lines)) if lines[at].startswith("}")), None)
        if not name or last is None:
            continue
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}@{seen[name]}"
        body = digest(lines[first : last + 1])[:12]
        found.append(CFunction(unique, first + 1, last + 1, body))
    return found


def hunks(change: FileChange) -> list[Hunk]:
    """Return what differs between both versions of a file."""
    before = (change.before or "").splitlines()
    after = (change.after or "").splitlines()
    head = _alike(before, after)
    rest = min(len(before), len(after)) - head
    tail = min(rest, _alike(before[::-1], after[::-1]))
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        Hunk(head + a + 1, tuple(old[a:b]), head + c + 1, tuple(new[c:d]))
        for kind, a, b, c, d in matcher.get_opcodes()
        if kind != "equal"
    ]


def leading(lines: Sequence[str], number: int, first: int) -> Iterator[int]:
    """Yield a line's number and those of the lines before it without which it does not run.

    In the kernel's style these are the lines above it that are not indented deeper, up to a label.

    Args:
        lines: the file.
        number: the line, counted from 1.
        first: the first line of its function.
    """
    yield number
    depth = _depth(lines[number - 1])
    for at in range(number - 1, first, -1):
        line = lines[at - 1]
        if LABEL.match(line):
            return
        if not is_comment(line) and _depth(line) <= depth:
            depth = _depth(line)
            yield at


def _depth(line: str) -> int:
    expanded = line.expandtabs()
    return len(expanded) - len(expanded.lstrip())


def _alike(one: Iterable[str], other: Iterable[str]) -> int:
    """Return the number of lines that two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _declaration(lines: Sequence[str], brace: int) -> int:
    """Return the index of the first line of the declaration above an opening brace."""
    at = brace
    while at and not lines[at - 1].strip():
        at -= 1
    while at and lines[at - 1].strip() and not lines[at - 1].startswith(("#", "}", "{")):
        if lines[at - 1].rstrip().endswith((";", "*/")):
            break
        at -= 1
    return at


def _name(declaration: str) -> str:
    """Return the name of the function in a declaration, empty if there is none."""
    names = [found[1] for found in CALLED.finditer(declaration)]
    return next((name for name in names if not ANNOTATION.match(name)), "")
