"""`vfio-lab claims`: the claims about vfio and which of them are shown."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from vfio_lab.campaign import results
from vfio_lab.spec.claims import Claim, Status, area_called, areas, select, threads
from vfio_lab.spec.scenarios import by_claim
from vfio_lab.util.project import evidence_folder

NARROWEST_COLUMNS = 60
INDENT = " " * 5


Verdicts = Mapping[str, Mapping[str, results.Outcome]]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--thread", help=f"List the claims of one thread: {', '.join(threads())}.")
@click.option(
    "--area",
    help="List the claims of one area, by letter or name: "
    + ", ".join(f"{area.letter} {area.word}" for area in areas().values())
    + ".",
)
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the evidence and verdicts of runs; by default the folder that runs write to.",
)
def claims(as_json: bool, thread: str | None, area: str | None, artifacts: Path | None) -> None:
    """List the claims about vfio: sentence, thread, kernels, scenarios, last verdicts."""
    chosen = select(thread, area)
    verdicts = results.last_verdicts(artifacts or evidence_folder())
    if as_json:
        click.echo(json.dumps([claim_record(claim, verdicts) for claim in chosen], indent=1))
        return
    width = max(NARROWEST_COLUMNS, shutil.get_terminal_size().columns)
    for line in listing(chosen, width, verdicts):
        click.echo(line)


def listing(chosen: list[Claim], width: int, verdicts: Verdicts) -> Iterator[str]:
    """Yield the lines of a listing.

    Args:
        chosen: the claims to list, ordered by area.
        width: the maximum number of columns.
        verdicts: the last outcome of each scenario, by kernel and node ID.
    """
    area = ""
    for claim in chosen:
        if claim.area != area:
            area = claim.area
            yield str(area_called(area))
        yield from _folded(f"{claim.id}  {claim.sentence}", width, "")
        facts = [status_text(claim), claim.thread]
        if claim.since or claim.until:
            facts.append(claim.kernels())
        facts += [f"{name} {outcome.value}" for name, outcome in last(claim, verdicts).items()]
        yield from _folded(f"[{'; '.join(facts)}]", width, INDENT)
        for nodeid in by_claim().get(claim.id, ()):
            yield f"{INDENT}{nodeid}"  # not wrapped, so that it can be copied
    yield counts_text(chosen)


def last(claim: Claim, verdicts: Verdicts) -> dict[str, results.Outcome]:
    """Return the outcome of a claim by the last verdicts of its scenarios, by kernel."""
    nodeids = by_claim().get(claim.id, ())
    found = {
        kernel: results.outcome_of_claim(
            outcome for nodeid, outcome in outcomes.items() if nodeid.partition("[")[0] in nodeids
        )
        for kernel, outcomes in verdicts.items()
    }
    return {kernel: outcome for kernel, outcome in found.items() if outcome}


def _folded(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=INDENT, break_on_hyphens=False
    )


def status_text(claim: Claim) -> str:
    """Return a claim's status, with the reason if there is one."""
    return f"{claim.status.value}: {claim.why}" if claim.why else claim.status.value


def counts_text(chosen: list[Claim]) -> str:
    """Return the number of claims of each status, as text."""
    counted = Counter(claim.status for claim in chosen)
    parts = [f"{counted[status]} {status.value}" for status in Status if counted[status]]
    return f"{len(chosen)} claims: {', '.join(parts)}" if chosen else "no claims"


def claim_record(claim: Claim, verdicts: Verdicts) -> dict[str, object]:
    """Return a claim as a JSON object."""
    return {
        "id": claim.id,
        "sentence": claim.sentence,
        "area": claim.area,
        "thread": claim.thread,
        "source": claim.source,
        "origin": claim.origin,
        "since": [change.id for change in claim.since],
        "until": [change.id for change in claim.until],
        "needs": list(claim.needs),
        "arch": list(claim.arch),
        "where": claim.where,
        "status": claim.status.value,
        "why": claim.why,
        "scenarios": by_claim().get(claim.id, ()),
        "verdicts": {name: outcome.value for name, outcome in last(claim, verdicts).items()},
    }
