"""Silent faults: small bugs that no scenario asserts against, to see whether behaviour shows them.

They are patches below `faults/silent/KERNEL/`, headed as mutants are. All are built into one
kernel; `switch.patch`, which is applied first, adds the module parameter that selects one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.campaign import behaviour, mutants, runs
from vfio_lab.campaign.behaviour import deviation_text
from vfio_lab.campaign.compare import BROKEN, CANNOT_JUDGE, SOUND
from vfio_lab.campaign.mutants import FOLDER, Mutant
from vfio_lab.campaign.results import BAD, Results
from vfio_lab.campaign.runs import Choice
from vfio_lab.errors import LabError
from vfio_lab.kernels import trial
from vfio_lab.kernels.base import PackagedBase
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache

SILENT = FOLDER / "silent"
SWITCH = "switch"
PARAMETER = "/sys/module/vfio/parameters/fault"
NONE = "none"


@dataclass(frozen=True)
class SilentResult:
    """What became of a silent fault.

    Args:
        fault: the fault.
        shown: the differences that no scenario asserts, in words.
        asserted: the first scenario that failed: the fault is not silent.
        reason: why nothing could be judged, empty if something could.
    """

    fault: Mutant
    shown: tuple[str, ...] = ()
    asserted: str = ""
    reason: str = ""

    @property
    def silent(self) -> bool:
        """Whether the scenarios ran and stayed green."""
        return not self.asserted and not self.reason

    def __str__(self) -> str:
        """Return it in one line."""
        words = f"{self.fault.kernel:5} {self.fault.name:30}"
        if self.reason:
            return f"???      {words} {self.reason}"
        if self.asserted:
            return f"asserted {words} {self.asserted}"
        return f"{'shown' if self.shown else 'hidden':8} {words} {'; '.join(self.shown[:2])}"


def read_silent(kernel: str, folder: Path = SILENT) -> tuple[Mutant, list[Mutant]]:
    """Return the switch of a kernel's silent faults, and the faults by name.

    Args:
        kernel: a packaged kernel's name.
        folder: where they are.

    Raises:
        UsageError: there are none for it, or one has no head.
    """
    found = {fault.name: fault for fault in mutants.read_mutants(kernel, folder)}
    return found.pop(SWITCH), list(found.values())


def try_silent(
    kernel: str, faults: Sequence[Mutant], jobs: int, where: Path, cache: Cache
) -> Iterator[SilentResult]:
    """Build all silent faults into one kernel, switch on one after the other, compare behaviour.

    Args:
        kernel: the packaged kernel's name.
        faults: which of its faults to switch on.
        jobs: guests at a time, at most.
        where: folder for the evidence.
        cache: where kernels are kept.

    Raises:
        BuildError: they do not apply together, or do not compile.
    """
    switch, all_faults = read_silent(kernel)
    patches = [patch for fault in (switch, *all_faults) for patch in fault.patches]
    base = PackagedBase(kernel, "the faults are for it")
    made = trial.ensure_pair(base, patches, cache).after.bzimage.parent
    covers = tuple(dict.fromkeys(place for fault in faults for place in fault.covers))
    before = _run(made, NONE, covers, jobs, where)
    with progress.task(f"Trying silent faults on kernel {kernel}", len(faults)) as task:
        for number, fault in enumerate(faults):
            task.update(number, note=fault.name)
            try:
                after = _run(made, fault.name, fault.covers, jobs, where)
            except LabError as error:
                yield SilentResult(fault, reason=error.what)
                continue
            yield _judge(fault, before, after)


def silent_tally(found: Sequence[SilentResult]) -> str:
    """Return how many silent faults are shown."""
    silent = [one for one in found if one.silent]
    shown = sum(bool(one.shown) for one in silent)
    asserted = sum(bool(one.asserted) for one in found)
    percent = f" ({100 * shown // len(silent)} %)" if silent else ""
    return f"{shown} of {len(silent)} silent faults shown{percent}, {asserted} asserted"


def silent_exit_code(found: Sequence[SilentResult]) -> int:
    """Return 1 if a fault is hidden or not silent, 125 if one could not be judged, else 0."""
    if any(not one.reason and (one.asserted or not one.shown) for one in found):
        return BROKEN
    return SOUND if found and not any(one.reason for one in found) else CANNOT_JUDGE


def _run(kernel: Path, fault: str, covers: tuple[str, ...], jobs: int, where: Path) -> Results:
    choice = Choice(covers, options=(f"--lab-write={PARAMETER}={fault}",), jobs=jobs)
    return runs.run_scenarios(kernel, choice, where / fault, f"Running scenarios with {fault}")


def _judge(fault: Mutant, before: Results, after: Results) -> SilentResult:
    passed = {one.nodeid for one in before.scenarios if one.outcome not in BAD}
    failed = [one for one in after.scenarios if one.outcome in BAD and one.nodeid in passed]
    if failed:
        return SilentResult(fault, asserted=f"{failed[0].nodeid}: {failed[0].reason}")
    compared = behaviour.compare_behaviour(before, after)
    if not compared.compared:
        return SilentResult(fault, reason="no scenario left behaviour to compare")
    return SilentResult(fault, tuple(deviation_text(row.deviation) for row in compared.rows))
