"""Which change of the kernel explains a difference of behaviour that no scenario asserts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vfio_lab.spec.changes import Change, load_changes
from vfio_lab.spec.tables import read_table
from vfio_lab.util.project import once_a_project
from vfio_lab.util.registry import Registry


@dataclass(frozen=True)
class Explanation:
    """What explains differences.

    Args:
        id: a name for it.
        pattern: matches the differences, as `vfio-lab changes` writes them.
        change: the kernel commit, None if it is not known.
        why: what the kernel does differently.
    """

    id: str
    pattern: re.Pattern[str]
    change: Change | None
    why: str


@once_a_project
def load_explanations() -> Registry[Explanation]:
    """Return the explanations of `lab/vfio_lab/spec/data/behaviour.toml` and of extensions."""
    return read_table("behaviour", "id", _explanation)


def _explanation(entry: Mapping[str, str | list[str]]) -> Explanation:
    change = entry.get("change")
    return Explanation(
        id=str(entry["id"]),
        pattern=re.compile(str(entry["pattern"])),
        change=None if change is None else load_changes()[str(change)],
        why=str(entry["why"]),
    )
