"""The shortest walk that still shows a disagreement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vfio_lab.model.exploration.steps import ROOT, Step, take
from vfio_lab.model.exploration.trial import Disagreement
from vfio_lab.model.exploration.walk import CLOSED
from vfio_lab.model.rules import Blocks
from vfio_lab.model.state import State

WORDS = ("group", "container", "device", "iommufd", "file")
Attempt = Callable[[Sequence[Step]], Disagreement | None]


def possible(start: State, steps: Sequence[Step]) -> list[Step]:
    """Return the steps that can be taken one after the other, leaving out what lacks its files."""
    state, kept = start, []
    for step in steps:
        if not _names(step) <= state.descriptors.keys():
            continue
        try:
            _, state = take(state, step)
        except (Blocks, KeyError, AssertionError):
            continue
        kept.append(step)
    return kept


def _names(step: Step) -> set[str]:
    """Return the descriptors that a step needs."""
    single = {str(step.given[word]) for word in WORDS if word in step.given}
    return {*single, *step.given.get("files", ())} - {CLOSED}


def shortest(start: State, found: Disagreement, attempt: Attempt) -> Disagreement:
    """Return a disagreement of the same kind after as few steps as can be found.

    Steps are left out in ever smaller runs, until none can be left out any more. What a step
    needs, and what then cannot be taken, goes with it.

    Args:
        start: the state to begin with.
        found: the disagreement.
        attempt: takes steps in a fresh guest.
    """
    if (less := _again(start, found, _related(found.steps), attempt)) is not None:
        found = less
    run = max(1, len(found.steps) // 2)
    while True:
        smaller = _without_a_run(start, found, attempt, run)
        if smaller is not None:
            found = smaller
            run = min(run, max(1, len(found.steps) // 2))
        elif run > 1:
            run //= 2
        else:
            return found


def _without_a_run(
    start: State, found: Disagreement, attempt: Attempt, run: int
) -> Disagreement | None:
    """Leave out each run of so many steps in turn, the last ones first."""
    steps, last = found.steps[:-1], found.steps[-1]
    for begin in range(len(steps) - run, -run, -run):
        rest = (*steps[: max(begin, 0)], *steps[begin + run :], last)
        if (less := _again(start, found, rest, attempt)) is not None:
            return less
    return None


def _again(
    start: State, found: Disagreement, steps: Sequence[Step], attempt: Attempt
) -> Disagreement | None:
    """Return the same disagreement after fewer steps, None if they do not lead to it."""
    kept = possible(start, steps)
    if len(kept) >= len(found.steps) or found.steps[-1] not in kept:
        return None
    again = attempt(kept)
    return again if again is not None and again.signature == found.signature else None


def _related(steps: Sequence[Step]) -> list[Step]:
    """Return the administrator's steps, and those with a descriptor that led to the last step's."""
    wanted, kept = _names(steps[-1]), [steps[-1]]
    for step in reversed(steps[:-1]):
        names = _names(step) | {str(step.given.get("new"))}
        if step.user == ROOT or names & wanted:
            wanted |= names
            kept.insert(0, step)
    return kept
