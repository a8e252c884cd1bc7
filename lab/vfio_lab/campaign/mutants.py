"""Mutants: small faults, most in drivers/vfio, that show whether the scenarios notice a bug.

Each fault is a patch below `faults/KERNEL/`. Its header says what it breaks (`Breaks:`). The
scenarios that can reach it run until one notices; a header may name others (`Covers:`, paths below
`scenarios/`). If no scenario can notice a fault, the header says why (`Equivalent:`), and the
mutant must survive.

`faults/KERNEL/killers.json` has the scenario that noticed each mutant when all were last recorded;
it runs first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vfio_lab.campaign import runs
from vfio_lab.campaign.compare import BROKEN, CANNOT_JUDGE, SOUND
from vfio_lab.campaign.reach import load_reach
from vfio_lab.campaign.results import BAD, Outcome, Record
from vfio_lab.campaign.runs import Choice
from vfio_lab.campaign.selection import select_scenarios
from vfio_lab.campaign.spread_exploration import SpreadExploration
from vfio_lab.errors import BuildError, LabError, UsageError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.kernels import ktree, packaged, patching, series, trial
from vfio_lab.kernels.csource import FileChange
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.kernels.series import Patch
from vfio_lab.machine.template import GuestFactory
from vfio_lab.model.exploration import explorer
from vfio_lab.model.rules import CITED
from vfio_lab.spec.scenarios import FOLDER as SCENARIOS
from vfio_lab.spec.scenarios import PROJECT, home, scenario_catalogue
from vfio_lab.util import progress
from vfio_lab.util.cache import Cache
from vfio_lab.util.extensions import join, load_extensions
from vfio_lab.util.files import write_whole

FOLDER = PROJECT / "faults"
HEAD = re.compile(
    r"\ABreaks: (?P<breaks>.+)\n(Covers: (?P<covers>.+)\n)?(Equivalent: (?P<equivalent>.+)\n)?"
)
KILLERS = "killers.json"
BASELINE = "baseline"
ENOUGH_ALIKE = 60  # of the scenarios that reach an equivalent mutant, the narrowest
SAYS_WHY = ("ERROR ", "FAILED ")  # lines of pytest's summary
EXPLORED = ("igb", "multifunction", "noiommu")


@dataclass(frozen=True)
class Mutant:
    """A fault for one kernel.

    Args:
        name: the name of its patch.
        kernel: the packaged kernel that it is for.
        breaks: what it breaks, as a sentence.
        covers: the scenarios that should notice, relative to the project; if none, those that can
            reach the fault.
        patches: its patches; none for the baseline, a rebuild without a fault.
        equivalent: why no scenario can notice, if none can.
        noticed_by: the scenario that noticed it when that was last recorded, else empty.
    """

    name: str
    kernel: str
    breaks: str
    covers: tuple[str, ...]
    patches: tuple[Patch, ...]
    equivalent: str = ""
    noticed_by: str = ""


@dataclass(frozen=True)
class MutationResult:
    """The result of a mutant.

    Args:
        fault: the fault.
        killed_by: the first scenario that noticed, empty if the mutant survived.
        reason: the reason of that scenario's failure, or why the mutant was not judged.
        judged: whether the scenarios could be run.
    """

    fault: Mutant
    killed_by: str
    reason: str
    judged: bool = True

    @classmethod
    def unjudged(cls, fault: Mutant, error: LabError) -> Self:
        """Return the result of a mutant that an error kept from being judged, with its cause."""
        output = (error.tail or "").splitlines()
        causes = [line for line in output if line.startswith(SAYS_WHY)] or [error.seen or ""]
        return cls(fault, "", f"{error.what}: {causes[-1]}".rstrip(": "), judged=False)

    @property
    def as_expected(self) -> bool:
        """Whether a scenario noticed; baseline and equivalent mutants must not be noticed."""
        return self.judged and bool(self.killed_by) != bool(self.fault.equivalent)

    def __str__(self) -> str:
        """Return the result in one line."""
        words = f"{self.fault.kernel:5} {self.fault.name:30}"
        if not self.judged:
            return f"???      {words} {self.reason}"
        if self.killed_by:
            return f"killed   {words} {self.killed_by}"
        if self.fault.equivalent:
            return f"alike    {words} {self.fault.equivalent}"
        return f"survived {words} {self.fault.breaks}"


def kernels_with_faults(folder: Path | None = None) -> list[str]:
    """Return the packaged kernels that have mutants, in all folders or in one."""
    folders = _folders() if folder is None else [folder]
    return sorted({path.parent.name for one in folders for path in one.glob("*/*.patch")})


def read_mutants(kernel: str, folder: Path | None = None) -> list[Mutant]:
    """Return the mutants of a kernel by name: those of the lab, of extensions and of the project.

    Args:
        kernel: a packaged kernel's name.
        folder: read only the mutants of this folder.

    Raises:
        UsageError: there are none for the kernel, or a patch has no header.
    """
    folders = _folders() if folder is None else [folder]
    rooms = [one / kernel for one in folders]
    paths = [path for room in rooms for path in sorted(room.glob("*.patch"))]
    if not paths:
        raise UsageError(
            f"there are no faults for kernel {kernel}",
            expected=f"patches in {' or '.join(map(str, folders))}",
        )
    killers = {room: read_killers(room) for room in rooms}
    parts = [
        (path, {path.stem: _read(path, kernel, killers[path.parent].get(path.stem, ""))})
        for path in paths
    ]
    return list(join("fault", parts).values())


def read_killers(room: Path) -> dict[str, str]:
    """Return the node IDs of the scenarios that noticed a kernel's mutants, by mutant.

    Args:
        room: the folder of the kernel's mutants.
    """
    path = room / KILLERS
    return dict(json.loads(path.read_text())) if path.exists() else {}


def record_killers(found: Iterable[MutationResult]) -> None:
    """Write down which scenario noticed each mutant, beside the mutants' patches.

    A mutant that was not judged keeps its record.

    Args:
        found: the results.

    Raises:
        HostError: a file cannot be written.
    """
    judged = [one for one in found if one.judged]
    for room in {folder / one.fault.kernel for folder in _folders() for one in judged}:
        known = read_killers(room)
        mine = [one for one in judged if (room / f"{one.fault.name}.patch").exists()]
        new = known | {one.fault.name: one.killed_by for one in mine}
        if mine:
            kept = {name: killer for name, killer in sorted(new.items()) if killer}
            write_whole(room / KILLERS, json.dumps(kept, indent=1) + "\n", mode=0o644)


@dataclass(frozen=True)
class Plan:
    """The scenarios that judge mutants.

    Args:
        scenarios: node IDs or files, instead of the scenarios that can reach a fault.
        expression: as for pytest -k; all of them by default.
        jobs: guests at a time, at most.
        explore_s: explore for so many seconds on each topology, instead of running scenarios.
        hosts: other hosts that run the scenarios instead of this one.
    """

    scenarios: tuple[str, ...]
    expression: str | None
    jobs: int
    explore_s: float = 0.0
    hosts: str | None = None

    def choices(self, fault: Mutant, changes: Iterable[FileChange]) -> Iterator[Choice]:
        """Yield the scenarios to run on a mutant, until one notices.

        Args:
            fault: the mutant.
            changes: the files that it changes.
        """
        named = self.scenarios or fault.covers
        if named:
            yield Choice(named, self.expression, ("-x",), self.jobs, self.hosts)
            return
        known = runs.chosen_scenarios(Choice(expression=self.expression))
        found = select_scenarios(load_reach(), changes, known).scenarios
        noticed = fault.noticed_by
        if noticed in found or noticed.partition("[")[0] in found:
            yield Choice((noticed,), None, ("-x",), hosts=self.hosts, single=True)
        others = tuple(one for one in found if one != noticed)
        few = others[:ENOUGH_ALIKE] if fault.equivalent else others
        if few:
            yield Choice(few, None, ("-x",), self.jobs, self.hosts, single=True)


def mutant_tally(found: Sequence[MutationResult]) -> str:
    """Return how many results are as expected, and how many mutants were not judged."""
    good = sum(one.as_expected for one in found)
    unknown = sum(not one.judged for one in found)
    words = f"{good} of {len(found)} as they should be"
    return f"{words}, {unknown} not judged" if unknown else words


def mutants_exit_code(found: Sequence[MutationResult]) -> int:
    """Return 1 if a result is not as expected, 125 if a mutant was not judged, else 0."""
    if any(one.judged and not one.as_expected for one in found):
        return BROKEN
    return SOUND if found and all(one.judged for one in found) else CANNOT_JUDGE


def run_baseline(kernel: str) -> Mutant:
    """Return the baseline: modules rebuilt without a fault, which no scenario may notice."""
    covers = _covers(FOLDER, "vf_token/test_match.py")
    return Mutant(
        BASELINE,
        kernel,
        "nothing",
        covers,
        (),
        "nothing: the same modules, rebuilt without a fault",
    )


def choose_mutants(faults: Sequence[Mutant], count: int | None) -> list[Mutant]:
    """Return some mutants, evenly spaced over all of them."""
    if count is None or count >= len(faults):
        return list(faults)
    return [faults[index * len(faults) // count] for index in range(count)]


def within_the_model(faults: Sequence[Mutant]) -> list[Mutant]:
    """Return the mutants that walks through the model should notice.

    The scenario that noticed such a mutant cites a claim that a rule of the model cites.
    """
    cited = {claim for claims in CITED.values() for claim in claims}
    known = scenario_catalogue()
    about = {name: cited & {*scenario.claims} for name, scenario in known.items()}
    return [fault for fault in faults if about.get(fault.noticed_by.partition("[")[0])]


def try_all(
    faults: Sequence[Mutant], plan: Plan, where: Path, cache: Cache
) -> Iterator[MutationResult]:
    """Build each mutant and run the scenarios that can reach it until one of them notices.

    Args:
        faults: the mutants, all of one kernel.
        plan: the scenarios.
        where: folder for the evidence.
        cache: where kernels are kept.

    Raises:
        HostError: this host cannot build.
    """
    kernel = faults[0].kernel
    tree, base = ktree.ensure_tree(kernel, cache), packaged.ensure_packaged_kernel(kernel, cache)
    without = Unbroken(kernel, where)
    touched = series.touched(patch for fault in faults for patch in fault.patches)
    area = ktree.VFIO if trial.modules_suffice(touched) else ktree.WHOLE
    with (
        ktree.branch(tree, f"{kernel}-faults", [area]) as bench,
        progress.task(f"Trying faults on kernel {kernel}", len(faults)) as task,
    ):
        for number, fault in enumerate(faults):
            task.update(number, note=fault.name)
            try:
                files = patching.patched_files(fault.patches, tree.bench.tree, f"kernel {kernel}")
                change = trial.SourceChange(fault.patches, files)
                made = trial.patched_in(bench, tree, base, change, cache)
                changes = patching.file_changes(files, tree.bench.tree)
                yield _try(fault, made, plan, changes, without)
            except BuildError as error:
                yield MutationResult.unjudged(fault, error)


class Unbroken:
    """The kernel without a fault; a scenario that fails on it too has noticed nothing.

    Args:
        kernel: the packaged kernel's name.
        where: folder for the evidence.
    """

    def __init__(self, kernel: str, where: Path) -> None:
        self.kernel = kernel
        self.where = where
        self._passes: dict[str, bool] = {}

    def passes(self, nodeid: str) -> bool:
        """Return whether a scenario passes on it; each scenario is run once."""
        if nodeid not in self._passes:
            where = self.where / f"{self.kernel}-without" / str(len(self._passes))
            title = f"Running {nodeid.rpartition('::')[2]} without a fault"
            found = runs.run_scenarios(self.kernel, Choice((nodeid,)), where, title)
            self._passes[nodeid] = not any(one.outcome in BAD for one in found.scenarios)
        return self._passes[nodeid]


def _try(
    fault: Mutant, kernel: Kernel, plan: Plan, changes: Iterable[FileChange], without: Unbroken
) -> MutationResult:
    where = without.where / f"{fault.kernel}-{fault.name}"
    if plan.explore_s:
        return _explore(fault, kernel, plan, where)
    title = f"Running scenarios on {fault.name}"
    result = MutationResult(fault, "", "no scenario could judge it", judged=False)
    try:
        for number, choice in enumerate(plan.choices(fault, changes)):
            folder = where / str(number)
            found = runs.run_scenarios(kernel.bzimage.parent, choice, folder, title)
            result = _result(fault, found.scenarios, without)
            if result.killed_by:
                break
    except LabError as error:
        return MutationResult.unjudged(fault, error)
    return result


def _result(fault: Mutant, scenarios: Sequence[Record], without: Unbroken) -> MutationResult:
    failed = [record for record in scenarios if record.outcome in BAD and record.judged]
    for record in failed:
        if without.passes(record.nodeid):
            return MutationResult(fault, record.nodeid, record.reason)
    if failed:  # the run has stopped at the failure
        return MutationResult(fault, "", f"{failed[0].nodeid} failed before too", judged=False)
    judged = any(record.outcome is Outcome.PASSED for record in scenarios)
    return MutationResult(fault, "", "" if judged else "no scenario could judge it", judged)


def _explore(fault: Mutant, kernel: Kernel, plan: Plan, where: Path) -> MutationResult:
    """Explore one topology after the other, until one shows the fault."""
    factory = GuestFactory.open(Cache.default(), str(kernel.bzimage.parent))
    for name in EXPLORED:
        try:
            machine = factory.boot_spec(find_topology(name))
            part = explorer.Exploration(machine, where / name, seconds=plan.explore_s)
            if plan.hosts is None:
                found = explorer.explore(part, shorten=False).found
            else:
                found = SpreadExploration(part, plan.hosts, shorten=False).explore().found
        except LabError as error:
            return MutationResult.unjudged(fault, error)
        if found is not None:
            return MutationResult(fault, f"exploration of {name}", str(found))
    return MutationResult(fault, "", "")


def _read(path: Path, kernel: str, noticed_by: str) -> Mutant:
    text = path.read_text()
    head = HEAD.match(text)
    if head is None:
        raise UsageError(f"{path} does not say what it breaks", expected="a line Breaks:")
    covers = _covers(path.parents[1], head["covers"]) if head["covers"] else ()
    patches = (Patch(path.name, text),)
    equivalent = head["equivalent"] or ""
    return Mutant(path.stem, kernel, head["breaks"], covers, patches, equivalent, noticed_by)


def _folders() -> list[Path]:
    return [FOLDER, *(one.folder / FOLDER.name for one in load_extensions())]


def _covers(folder: Path, places: str) -> tuple[str, ...]:
    """Return the scenarios that should notice a fault; for the lab's faults the project's."""
    root, scenarios = home()
    if folder == FOLDER and scenarios != SCENARIOS:
        return runs.all_scenarios()
    room = scenarios.relative_to(root).as_posix()
    return tuple(f"{room}/{place}" for place in places.split())
