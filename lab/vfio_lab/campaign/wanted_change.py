"""A difference of behaviour as what a bisection looks for, instead of a scenario that fails."""

from __future__ import annotations

from pathlib import Path

from vfio_lab.campaign import behaviour
from vfio_lab.campaign.behaviour import BehaviourRow, Comparison
from vfio_lab.campaign.results import Results
from vfio_lab.errors import UsageError
from vfio_lab.evidence.deviations import deviations
from vfio_lab.evidence.observed import Observed
from vfio_lab.util.files import write_whole

WANTED = "change.json"
REFERENCE = "reference.json"


def find_row(words: str) -> BehaviourRow:
    """Return the row that `FILE#ID` names; the file is a behaviour.json, or its folder.

    Raises:
        UsageError: there is no such file, or no such row in it.
    """
    name, _, row_id = words.rpartition("#")
    path = Path(name)
    path = path / behaviour.BEHAVIOUR if path.is_dir() else path
    rows = [row for one in behaviour.read_comparisons(path) for row in one.rows]
    for row in rows:
        if row.deviation.id == row_id:
            return row
    raise UsageError(
        f"there is no difference {row_id} in {path}",
        expected=", ".join(row.deviation.id for row in rows[:10]) or "a file with differences",
        hint="name one as FILE#ID, such as .artifacts/try-1/behaviour.json#3f1c9a02",
    )


def look_for(row: BehaviourRow, where: Path) -> None:
    """Have the bisection in a folder look for a difference."""
    write_whole(where / WANTED, behaviour.comparisons_text([Comparison("", "", 0, (row,))]))


def verdict_by_change(found: Results, where: Path) -> tuple[bool | None, str] | None:
    """Say whether a commit behaves differently from the first one, which is the good end.

    Args:
        found: the run of the scenario on this commit.
        where: the bisection's folder.

    Returns:
        None if the bisection looks for no difference; else whether this commit has it (None if that
        cannot be said), and why.
    """
    if not (where / WANTED).exists():
        return None
    ((wanted,),) = (one.rows for one in behaviour.read_comparisons(where / WANTED))
    seen = next(filter(None, map(behaviour.observed_of, found.scenarios)), None)
    if seen is None:
        return None, "the scenario left no behaviour"
    reference = where / REFERENCE
    if not reference.exists():
        write_whole(reference, seen.to_json())
    first = Observed.from_json(reference.read_text())
    changed = first is not None and wanted.deviation in deviations(first, seen)
    return changed, behaviour.deviation_text(wanted.deviation) if changed else ""
