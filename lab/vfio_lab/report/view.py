"""The report's view of runs: scenarios as text, claims and files with a cell for each run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vfio_lab.campaign.results import (
    BAD,
    Outcome,
    Record,
    Results,
    outcome_of_claim,
)
from vfio_lab.evidence.collect import FAILURE, STACKS
from vfio_lab.hw.catalogue import topologies
from vfio_lab.report.events import Story, story
from vfio_lab.report.tolerant import end_of_file, printable
from vfio_lab.spec.claims import Claim, Thread, load_claims, threads
from vfio_lab.spec.scenarios import scenario_sentence
from vfio_lab.util.cache import digest

WORDS = {
    Outcome.PASSED: "proven",
    Outcome.FAILED: "contradicted",
    Outcome.ERROR: "error",
    Outcome.KNOWN: "known",
    Outcome.SKIPPED: "skipped",
}
SLUG_DIGITS = 10
LONGEST_REASON = 2_000
LONGEST_TEXT = 20_000


@dataclass(frozen=True)
class RunView:
    """A run, as shown in the report.

    Args:
        results: what it found.
        folder: of its results and evidence.
        label: its kernel's name, with a number if an earlier run has the same kernel.
    """

    results: Results
    folder: Path
    label: str

    @property
    def made_from(self) -> list[str]:
        """The commit, the base and the patches of its kernel, a line each."""
        kernel = self.results.kernel
        git, base = kernel.get("git"), kernel.get("base")
        lines = (
            [f"tree at {git['describe']}{' with changes' if git['dirty'] else ''}"] if git else []
        )
        lines += [f"patches on {base}:"] if base else []
        return [*lines, *(printable(one["subject"]) for one in kernel.get("patches", ()))]


@dataclass(frozen=True)
class ScenarioView:
    """A scenario of a run, as shown in the report.

    Args:
        record: the scenario's result.
        run: the run's label.
        kernel: the kernel's name.
        evidence: the evidence folder, None if there is none.
    """

    record: Record
    run: str
    kernel: str
    evidence: Path | None

    @property
    def name(self) -> str:
        """The node ID without the folder of all scenarios."""
        return printable(self.record.nodeid).removeprefix("scenarios/")

    @property
    def word(self) -> str:
        """The verdict on the scenario's claims, as a word."""
        return WORDS[self.record.outcome]

    @cached_property
    def slug(self) -> str:
        """The scenario's name in URLs and file names, the same in each report on that kernel."""
        return digest([self.run, self.record.nodeid])[:SLUG_DIGITS]

    @property
    def sentence(self) -> str:
        """The sentence that the scenario shows."""
        return scenario_sentence(self.record.nodeid) or self.name

    @property
    def reason(self) -> str:
        """Why it ended like that, as its record says."""
        return printable(self.record.reason)[:LONGEST_REASON]

    @property
    def failure(self) -> str:
        """The failure as reported by pytest; empty if it did not fail."""
        return end_of_file(self.evidence / FAILURE, LONGEST_TEXT) if self.evidence else ""

    @property
    def stacks(self) -> str:
        """Kernel stacks of users whose calls did not return; empty if all calls returned."""
        return end_of_file(self.evidence / STACKS, LONGEST_TEXT) if self.evidence else ""

    def story(self) -> Story:
        """Return what happened in it."""
        topology = topologies().get(self.record.topology)
        return story(self.evidence, topology) if self.evidence else Story()


@dataclass(frozen=True)
class ClaimRow:
    """A claim with its verdicts.

    Args:
        claim: the claim.
        cells: a word for each kernel, empty if no scenario ran there.
        scenarios: the scenarios by name, with a view for each run.
    """

    claim: Claim
    cells: tuple[str, ...]
    scenarios: tuple[tuple[str, tuple[ScenarioView, ...]], ...]

    @property
    def words(self) -> str:
        """The distinct words of the cells."""
        return " ".join(sorted(set(filter(None, self.cells))))


@dataclass(frozen=True)
class Section:
    """The claims of one thread."""

    thread: Thread
    rows: tuple[ClaimRow, ...]


def run_views(runs: Sequence[tuple[Results, Path]]) -> list[RunView]:
    """Return runs with their labels."""
    times: Counter[str] = Counter()
    views = []
    for results, folder in runs:
        name = printable(results.kernel["name"])
        times[name] += 1
        views.append(
            RunView(results, folder, f"{name} ({times[name]})" if times[name] > 1 else name)
        )
    return views


def scenario_views(run: RunView) -> Iterator[ScenarioView]:
    """Yield the scenarios of a run, with their evidence folders below the run's folder."""
    for record in run.results.scenarios:
        inside = record.evidence and Path(record.evidence).name == record.evidence
        evidence = run.folder / record.evidence if inside else None
        yield ScenarioView(record, run.label, run.results.kernel["name"], evidence)


def failures(scenarios: Iterable[ScenarioView]) -> list[ScenarioView]:
    """Return the scenarios that failed, including those whose setup failed."""
    return [scenario for scenario in scenarios if scenario.record.outcome in BAD]


def by_reason(scenarios: Iterable[ScenarioView]) -> dict[str, list[ScenarioView]]:
    """Return scenarios by the reason that their records give."""
    reasons: defaultdict[str, list[ScenarioView]] = defaultdict(list)
    for scenario in scenarios:
        reasons[scenario.reason].append(scenario)
    return dict(reasons)


def counts(records: Iterable[Record]) -> str:
    """Return the number of scenarios by outcome, the worst first."""
    counted = Counter(record.outcome for record in records)
    order = sorted(counted, key=lambda outcome: -outcome.weight)
    return ", ".join(f"{counted[outcome]} {WORDS[outcome]}" for outcome in order) or "nothing"


def headline(scenarios: Sequence[ScenarioView]) -> str:
    """Return the verdict as a line."""
    bad = len(failures(scenarios))
    if bad:
        return f"{bad} of {len(scenarios)} scenarios failed"
    return f"All {len(scenarios)} scenarios as expected"


def sections(scenarios: Sequence[ScenarioView], runs: Sequence[RunView]) -> list[Section]:
    """Return all claims by thread, with their verdicts in the runs."""
    labels = [run.label for run in runs]
    rows = [_row(claim, scenarios, labels) for claim in load_claims().values()]
    return [
        Section(thread, tuple(row for row in rows if row.claim.thread == thread.id))
        for thread in threads().values()
    ]


def shown_and_left(found: Iterable[Section]) -> tuple[list[Section], list[Section]]:
    """Return the claims that the runs say something about, and those that they do not."""
    parts: tuple[list[Section], list[Section]] = [], []
    for section in found:
        for part, wanted in zip(parts, (True, False), strict=True):
            rows = tuple(row for row in section.rows if bool(row.words) is wanted)
            if rows:
                part.append(Section(section.thread, rows))
    return parts


def by_file(scenarios: Iterable[ScenarioView]) -> dict[str, dict[str, list[ScenarioView]]]:
    """Return scenarios by file and name, with a view for each run."""
    files: defaultdict[str, dict[str, list[ScenarioView]]] = defaultdict(dict)
    for scenario in sorted(scenarios, key=lambda one: one.name):
        file, _, test = scenario.name.partition("::")
        files[file].setdefault(test or file, []).append(scenario)
    return dict(files)


def _row(claim: Claim, scenarios: Sequence[ScenarioView], runs: Sequence[str]) -> ClaimRow:
    mine = [scenario for scenario in scenarios if claim.id in scenario.record.claims]
    names = dict.fromkeys(scenario.name for scenario in mine)
    verdicts = [
        outcome_of_claim(each.record.outcome for each in mine if each.run == run) for run in runs
    ]
    return ClaimRow(
        claim,
        tuple(WORDS[verdict] if verdict else "" for verdict in verdicts),
        tuple(
            (name, tuple(scenario for scenario in mine if scenario.name == name)) for name in names
        ),
    )
