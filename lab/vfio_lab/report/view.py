"""The report's view of runs: scenarios as text, claims with a cell for each kernel."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vfio_lab.campaign.results import (
    Outcome,
    Record,
    Results,
    worst,
)
from vfio_lab.evidence.collect import FAILURE, STACKS
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
BAD = (Outcome.FAILED, Outcome.ERROR)
SLUG_DIGITS = 10
MOST_MOMENTS = 300
LONGEST_WHAT = 600
LONGEST_TEXT = 20_000


@dataclass(frozen=True)
class ScenarioView:
    """A scenario of a run, as shown in the report.

    Args:
        record: the scenario's result.
        kernel: the kernel's name.
        evidence: the evidence folder, None if there is none.
    """

    record: Record
    kernel: str
    evidence: Path | None

    @property
    def name(self) -> str:
        """The node ID without the folder of all scenarios."""
        return self.record.nodeid.removeprefix("scenarios/")

    @property
    def word(self) -> str:
        """The verdict on the scenario's claims, as a word."""
        return WORDS[self.record.outcome]

    @cached_property
    def slug(self) -> str:
        """The scenario's name in URLs and file names."""
        return digest([self.kernel, self.record.nodeid])[:SLUG_DIGITS]

    @property
    def sentence(self) -> str:
        """The sentence that the scenario shows."""
        return scenario_sentence(self.record.nodeid) or self.name

    @property
    def failure(self) -> str:
        """The failure as reported by pytest; empty if it did not fail."""
        return self._text(FAILURE)

    @property
    def stacks(self) -> str:
        """Kernel stacks of users whose calls did not return; empty if all calls returned."""
        return self._text(STACKS)

    def _text(self, name: str) -> str:
        """Return the end of an evidence file, empty if the file does not exist."""
        if self.evidence is None or not (self.evidence / name).exists():
            return ""
        return (self.evidence / name).read_text()[-LONGEST_TEXT:]

    def timeline(self) -> list[tuple[float, str, str, str]]:
        """Return the events: seconds since the guest resumed, actor, action, result.

        In a long timeline the middle is replaced by a reference to the evidence.
        """
        path = self.evidence / "timeline.json" if self.evidence else None
        moments = json.loads(path.read_text()) if path and path.exists() else []
        scenario_views = [
            (round(moment["at"], 3), moment["who"], moment["what"][:LONGEST_WHAT], moment["result"])
            for moment in moments
        ]
        if len(scenario_views) <= MOST_MOMENTS:
            return scenario_views
        first, last = scenario_views[: MOST_MOMENTS // 2], scenario_views[-MOST_MOMENTS // 2 :]
        left = f"{len(scenario_views) - MOST_MOMENTS} more are in timeline.json of the evidence"
        return [*first, (last[0][0], "report", left, ""), *last]


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


def scenario_views(results: Results, run: Path) -> Iterator[ScenarioView]:
    """Yield the scenarios of a run, with their evidence folders below the run's folder."""
    for record in results.scenarios:
        evidence = run / record.evidence if record.evidence else None
        yield ScenarioView(record, results.kernel["name"], evidence)


def failures(scenarios: Iterable[ScenarioView]) -> list[ScenarioView]:
    """Return the scenarios that failed, including those whose setup failed."""
    return [scenario for scenario in scenarios if scenario.record.outcome in BAD]


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


def sections(scenarios: Sequence[ScenarioView], runs: Sequence[Results]) -> list[Section]:
    """Return all claims by thread, with their verdicts on the kernels of the runs."""
    kernels = [results.kernel["name"] for results in runs]
    rows = [_row(claim, scenarios, kernels) for claim in load_claims().values()]
    return [
        Section(thread, tuple(row for row in rows if row.claim.thread == thread.id))
        for thread in threads().values()
    ]


def _row(claim: Claim, scenarios: Sequence[ScenarioView], kernels: Sequence[str]) -> ClaimRow:
    mine = [scenario for scenario in scenarios if claim.id in scenario.record.claims]
    names = dict.fromkeys(scenario.name for scenario in mine)
    verdicts = [
        worst(scenario.record.outcome for scenario in mine if scenario.kernel == kernel)
        for kernel in kernels
    ]
    return ClaimRow(
        claim,
        tuple(WORDS[verdict] if verdict else "" for verdict in verdicts),
        tuple(
            (name, tuple(scenario for scenario in mine if scenario.name == name)) for name in names
        ),
    )
