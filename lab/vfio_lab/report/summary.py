"""The summary for a reply: what was tested and the results, as plain text of 72 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from vfio_lab.campaign.results import (
    Outcome,
    Record,
    Results,
    worst,
)
from vfio_lab.report.pages import moment, rough_duration
from vfio_lab.report.view import BAD, WORDS, counts
from vfio_lab.spec.claims import Claim, select, threads

WIDTH = 72
LABEL = 10
TESTED_BY = "Tested-by: "


def summarize(results: Results, thread: str | None = None, base: Results | None = None) -> str:
    """Return the summary of a run.

    Args:
        results: the results of the run.
        thread: list the claims of this thread with their verdicts; by default count all threads.
        base: the results of another run to compare with.

    Raises:
        UsageError: there is no such thread.
    """
    claims = select(thread)
    verdicts = outcome_by_claim(results.scenarios, claims)
    listed = claims if thread else [claim for claim in claims if verdicts.get(claim.id) in BAD]
    parts = [
        _facts(results),
        _by_thread(claims, verdicts),
        _verdicts(listed, verdicts),
        _failures(results, claims),
        _changes(results, base, claims) if base else [],
        [TESTED_BY],
    ]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))


def outcome_by_claim(records: Iterable[Record], claims: Iterable[Claim]) -> dict[str, Outcome]:
    """Return the worst outcome of each claim's scenarios; untested claims are left out."""
    found: dict[str, Outcome] = {}
    known = {claim.id for claim in claims}
    for record in records:
        for claim in known.intersection(record.claims):
            found[claim] = worst(filter(None, [found.get(claim), record.outcome])) or record.outcome
    return found


def _facts(results: Results) -> Iterator[str]:
    topologies = Counter(record.topology for record in results.scenarios if record.topology)
    facts = {
        "tested": f"vfio-lab {metadata.version('vfio-lab')}, {moment(results.started)}",
        "kernel": f"{results.kernel['release']} ({results.kernel['name']})",
        "patches": "; ".join(one["subject"] for one in results.kernel.get("patches", ())),
        "QEMU": f"{results.host['qemu']}, {results.host['accelerator'].upper()}",
        "hardware": ", ".join(f"{name} ({count})" for name, count in topologies.most_common()),
        "scenarios": f"{counts(results.scenarios)}, in {rough_duration(results.seconds)}",
    }
    for name, value in facts.items():
        if value:
            yield from _folded(f"{name:{LABEL}}{value}", LABEL)


def _by_thread(claims: list[Claim], verdicts: Mapping[str, Outcome]) -> Iterator[str]:
    for thread in threads().values():
        mine = [
            verdicts[claim.id]
            for claim in claims
            if claim.thread == thread.id and claim.id in verdicts
        ]
        if mine:
            counted = Counter(WORDS[outcome] for outcome in mine)
            counts = ", ".join(f"{count} {word}" for word, count in counted.most_common())
            yield from _folded(f"{thread.title}: {counts}", 2)
            if thread.link:
                yield f"  {thread.link}"  # not wrapped, so that the link works


def _verdicts(claims: list[Claim], verdicts: Mapping[str, Outcome]) -> Iterator[str]:
    for claim in claims:
        if claim.id in verdicts:
            word = WORDS[verdicts[claim.id]]
            yield from _folded(f"{claim.id} {word:13}{claim.sentence}", 17)


def _failures(results: Results, claims: list[Claim]) -> Iterator[str]:
    known = {claim.id for claim in claims}
    for record in results.scenarios:
        if record.outcome in BAD and known.intersection(record.claims):
            yield record.nodeid  # not wrapped, so that it can be copied
            for line in record.reason.splitlines()[:1]:
                yield from _folded(f"    {line}", 4)


def _changes(results: Results, base: Results, claims: list[Claim]) -> Iterator[str]:
    before = outcome_by_claim(base.scenarios, claims)
    after = outcome_by_claim(results.scenarios, claims)
    changed = [claim for claim in claims if before.get(claim.id) != after.get(claim.id)]
    yield f"Against {base.kernel['release']}: {len(changed) or 'no'} claims changed"
    for claim in changed:
        was, now = (
            WORDS[verdicts[claim.id]] if claim.id in verdicts else "not tested"
            for verdicts in (before, after)
        )
        yield from _folded(f"{claim.id} {was} -> {now}: {claim.sentence}", 4)


def _folded(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
