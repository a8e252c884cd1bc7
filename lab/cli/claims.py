"""`vfio-lab claims`: what is claimed about vfio, and which of it is shown."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator

import click

from lab.claims import AREAS, THREADS, Claim, Status, select

NARROWEST_COLUMNS = 60
INDENT = " " * 5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--thread", help=f"One thread only: {', '.join(THREADS)}.")
@click.option("--area", help="One area only, a letter from A to F.")
def claims(as_json: bool, thread: str | None, area: str | None) -> None:
    """List the claims about vfio: ID, sentence, thread, kernels, and whether it is shown."""
    chosen = select(thread, area)
    if as_json:
        click.echo(json.dumps([record(claim) for claim in chosen], indent=1))
        return
    width = max(NARROWEST_COLUMNS, shutil.get_terminal_size().columns)
    for line in listing(chosen, width):
        click.echo(line)


def listing(chosen: list[Claim], width: int) -> Iterator[str]:
    """Yield the lines of a listing.

    Args:
        chosen: what to list, in order of areas.
        width: columns to stay within.
    """
    area = ""
    for claim in chosen:
        if claim.area != area:
            area = claim.area
            yield f"{area}: {AREAS[area]}"
        yield from textwrap.wrap(
            f"{claim.id}  {claim.sentence}", width, subsequent_indent=INDENT, break_on_hyphens=False
        )
        facts = [standing(claim), claim.thread]
        if claim.since or claim.until:
            facts.append(claim.kernels())
        yield from textwrap.wrap(
            f"[{'; '.join(facts)}]",
            width,
            initial_indent=INDENT,
            subsequent_indent=INDENT,
            break_on_hyphens=False,
        )
    yield summary(chosen)


def standing(claim: Claim) -> str:
    """Return a claim's status with the reason for it, if there is one to give."""
    return f"{claim.status.value}: {claim.why}" if claim.why else claim.status.value


def summary(chosen: list[Claim]) -> str:
    """Return how many claims there are of each status."""
    counted = Counter(claim.status for claim in chosen)
    parts = [f"{counted[status]} {status.value}" for status in Status if counted[status]]
    return f"{len(chosen)} claims: {', '.join(parts)}" if chosen else "no claims"


def record(claim: Claim) -> dict[str, object]:
    """Return a claim as JSON shows it."""
    return {
        "id": claim.id,
        "sentence": claim.sentence,
        "area": claim.area,
        "thread": claim.thread,
        "source": claim.source,
        "since": [change.id for change in claim.since],
        "until": [change.id for change in claim.until],
        "needs": list(claim.needs),
        "where": claim.where,
        "status": claim.status.value,
        "why": claim.why,
    }
