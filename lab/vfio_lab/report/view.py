"""What the report shows of runs: scenarios in words, claims with their cells."""

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
from vfio_lab.spec.scenarios import scenario_catalogue
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
    """A scenario of a run, as the report shows it.

    Args:
        record: how it ended.
        kernel: on which kernel.
        evidence: its evidence folder, None if it left none.
    """

    record: Record
    kernel: str
    evidence: Path | None

    @property
    def name(self) -> str:
        """The node ID without the folder that all scenarios are in."""
        return self.record.nodeid.removeprefix("scenarios/")

    @property
    def word(self) -> str:
        """What the outcome says about its claims."""
        return WORDS[self.record.outcome]

    @cached_property
    def slug(self) -> str:
        """Its name in addresses."""
        return digest([self.kernel, self.record.nodeid])[:SLUG_DIGITS]

    @property
    def sentence(self) -> str:
        """What it shows, in a sentence."""
        scenario = scenario_catalogue().get(self.record.nodeid.partition("[")[0])
        return scenario.sentence if scenario else self.name

    @property
    def failure(self) -> str:
        """How it failed, as pytest told it; empty if it did not."""
        return self._text(FAILURE)

    @property
    def stacks(self) -> str:
        """Where users whose calls did not return sleep in the kernel; empty if all returned."""
        return self._text(STACKS)

    def _text(self, name: str) -> str:
        """Return the end of a file of the evidence, empty if it is not there."""
        if self.evidence is None or not (self.evidence / name).exists():
            return ""
        return (self.evidence / name).read_text()[-LONGEST_TEXT:]

    def timeline(self) -> list[tuple[float, str, str, str]]:
        """Return what happened: seconds since the guest woke, who, what, result.

        Of more than anybody reads the middle is left out, and said to be in the evidence.
        """
        path = self.evidence / "timeline.json" if self.evidence else None
        moments = json.loads(path.read_text()) if path and path.exists() else []
        scenario_views = [
            (round(one["at"], 3), one["who"], one["what"][:LONGEST_WHAT], one["result"])
            for one in moments
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
        cells: a word for each kernel, empty where no scenario ran.
        scenarios: by name, with the places where each ran.
    """

    claim: Claim
    cells: tuple[str, ...]
    scenarios: tuple[tuple[str, tuple[ScenarioView, ...]], ...]

    @property
    def words(self) -> str:
        """The different words of its cells."""
        return " ".join(sorted(set(filter(None, self.cells))))


@dataclass(frozen=True)
class Section:
    """The claims of one thread."""

    thread: Thread
    rows: tuple[ClaimRow, ...]


def scenario_views(results: Results, run: Path) -> Iterator[ScenarioView]:
    """Yield the scenarios of a run, with their evidence below its folder."""
    for record in results.scenarios:
        evidence = run / record.evidence if record.evidence else None
        yield ScenarioView(record, results.kernel["name"], evidence)


def failures(scenarios: Iterable[ScenarioView]) -> list[ScenarioView]:
    """Return those that failed, and those whose set-up did."""
    return [one for one in scenarios if one.record.outcome in BAD]


def counts(records: Iterable[Record]) -> str:
    """Return how many scenarios ended in each way, the worst first."""
    counted = Counter(record.outcome for record in records)
    order = sorted(counted, key=lambda outcome: -outcome.weight)
    return ", ".join(f"{counted[outcome]} {WORDS[outcome]}" for outcome in order) or "nothing"


def headline(scenarios: Sequence[ScenarioView]) -> str:
    """Return the verdict in a line."""
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
    mine = [one for one in scenarios if claim.id in one.record.claims]
    names = dict.fromkeys(one.name for one in mine)
    verdicts = [
        worst(one.record.outcome for one in mine if one.kernel == kernel) for kernel in kernels
    ]
    return ClaimRow(
        claim,
        tuple(WORDS[verdict] if verdict else "" for verdict in verdicts),
        tuple((name, tuple(one for one in mine if one.name == name)) for name in names),
    )
