"""The summary for a reply: what was tested and the results, as plain text of 72 columns."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from vfio_lab.campaign import compare
from vfio_lab.campaign.behaviour import Comparison, deviation_text
from vfio_lab.campaign.results import (
    BAD,
    Outcome,
    Record,
    Results,
    outcome_of_claim,
)
from vfio_lab.campaign.series_trial import MAILBOX
from vfio_lab.report.pages import moment, rough_duration
from vfio_lab.report.view import WORDS, counts
from vfio_lab.spec.claims import Claim, load_claims, select, threads

WIDTH = 72
LABEL = 10
TESTED_BY = "Tested-by: "
MOST_LISTED = 12


def summarize(
    results: Results,
    thread: str | None = None,
    base: Results | None = None,
    compared: Sequence[Comparison] = (),
    tester: str = "",
) -> str:
    """Return the summary of a run.

    Args:
        results: the results of the run.
        thread: list the claims of this thread with their verdicts; by default count all threads.
        base: the results of another run to compare with.
        compared: the behaviour of that run and of this one.
        tester: name and address for a Tested-by line; no such line by default.

    Raises:
        UsageError: there is no such thread.
    """
    claims = select(thread)
    verdicts = outcome_by_claim(results.scenarios, claims)
    listed = claims if thread else [claim for claim in claims if verdicts.get(claim.id) in BAD]
    found = [_verdicts(listed, verdicts), _failures(results, claims)]
    parts = [
        _facts(results),
        *([_changes(results, base)] if base and not thread else found),
        *map(_behaviour, compared),
        _not_judged(results, base),
        _by_thread(claims, verdicts),
        _how_to_repeat(results),
        [f"{TESTED_BY}{tester}"] if tester else [],
    ]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part)))


def outcome_by_claim(records: Iterable[Record], claims: Iterable[Claim]) -> dict[str, Outcome]:
    """Return the outcome of each claim; untested claims are left out."""
    run = list(records)
    found = {
        claim.id: outcome_of_claim(one.outcome for one in run if claim.id in one.claims)
        for claim in claims
    }
    return {claim: outcome for claim, outcome in found.items() if outcome}


def _facts(results: Results) -> Iterator[str]:
    topologies = Counter(record.topology for record in results.scenarios if record.topology)
    facts = {
        "tested": f"vfio-lab {metadata.version('vfio-lab')}, {moment(results.started)}",
        "kernel": f"{results.kernel['release']} ({results.kernel['name']})",
        "source": _source(results.kernel),
        "base": str(results.kernel.get("base", "")),
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


def _source(kernel: Mapping[str, Any]) -> str:
    if git := kernel.get("git"):
        return f"{git['describe']}{', with local changes' if git['dirty'] else ''}"
    package = kernel.get("package")
    return f"{package['name']} {package['version']}" if package else ""


def _changes(results: Results, base: Results) -> Iterator[str]:
    """Yield the scenarios that end otherwise than on the base, the worse ones first."""
    ran = {record.nodeid for record in results.scenarios}
    rows = [row for row in compare.rows([base, results]) if row.differs and row.nodeid in ran]
    rows.sort(key=lambda row: not row.worsened)
    name = f"{base.kernel['release']} ({base.kernel['name']})"
    count = "1 scenario ends" if len(rows) == 1 else f"{len(rows) or 'no'} scenarios end"
    yield from _folded(f"Against {name}: {count} otherwise", 2)
    claims = load_claims()
    for row in rows[:MOST_LISTED]:
        yield ""
        yield row.nodeid  # not wrapped, so that it can be copied
        for claim in row.claims:
            yield from _folded(f"  {claim} {claims[claim].sentence if claim in claims else ''}", 6)
        for when, record in zip(("before", "after"), row.records, strict=True):
            yield from _folded(f"  {when:7}{compare.told(record)}", 9)
    yield from _rest(rows)


def _behaviour(compared: Comparison) -> Iterator[str]:
    """Yield what changed and what no scenario asserts."""
    rows = compared.unasserted
    count = {0: "no difference", 1: "1 difference"}.get(len(rows), f"{len(rows)} differences")
    text = f"Behaviour that no scenario asserts, in {compared.compared} scenarios: {count}"
    yield from _folded(text, 2)
    for row in rows[:MOST_LISTED]:
        yield from _folded(f"  {deviation_text(row.deviation)}", 4)
        yield f"    {row.scenarios[0]}"  # not wrapped, so that it can be copied
    yield from _rest(rows)


def _not_judged(results: Results, base: Results | None) -> Iterator[str]:
    """Yield what could not be judged, by reason, and how often."""
    before = {} if base is None else {one.nodeid: one for one in base.scenarios}
    why: Counter[str] = Counter()
    for record in results.scenarios:
        earlier = before.get(record.nodeid)
        if earlier is not None and earlier.outcome in BAD and record.outcome in BAD:
            why["failed before too"] += 1
        elif record.outcome is Outcome.SKIPPED or not record.judged:
            why[next(iter(record.reason.splitlines()), "") or "no reason is known"] += 1
    if why:
        yield f"Not judged: {why.total()} of {len(results.scenarios)} scenarios"
    for reason, count in why.most_common(MOST_LISTED):
        yield from _folded(f"  {count} {reason}", 4)
    yield from _rest(list(why))


def _rest(listed: Sequence[object]) -> Iterator[str]:
    if len(listed) > MOST_LISTED:
        yield f"  and {len(listed) - MOST_LISTED} more"


def _how_to_repeat(results: Results) -> Iterator[str]:
    """Yield the lines that do it again: three for a series."""
    version = metadata.version("vfio-lab")
    words = shlex.split(results.command)
    if words[:2] == ["vfio-lab", "try"]:
        yield "To repeat it:"
        yield f"  pip install vfio-lab=={version}"
        yield f"  b4 am -o- MESSAGE-ID >{MAILBOX}"
    elif words:
        yield f"To repeat it, in the project's folder, with vfio-lab {version}:"
    line = " "
    for word in map(shlex.quote, words):
        if len(f"{line} {word} \\") > WIDTH and line.strip():
            yield f"{line} \\"
            line = "   "
        line = f"{line} {word}"
    if words:
        yield line


def _folded(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
