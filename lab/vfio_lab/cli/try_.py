"""`vfio-lab try`: how a patch series changes the kernel's behaviour."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vfio_lab.campaign.compare import Difference
from vfio_lab.campaign.results import Outcome, Results
from vfio_lab.campaign.runs import Heard
from vfio_lab.cli.options import no_jail
from vfio_lab.errors import BuildError


@click.command("try")
@click.argument("patches", metavar="SERIES.mbox|PATCH|A..B...", nargs=-1, required=True)
@click.option(
    "--on", "name", help="Packaged kernel to apply the patches to; the newest by default."
)
@click.option("-k", "expression", metavar="EXPR", help="Select scenarios, as for pytest -k.")
@click.option(
    "-C",
    "repository",
    type=click.Path(path_type=Path),
    default=".",
    help="Repository of git ranges.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@no_jail
@click.pass_context
def try_(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    patches: tuple[str, ...],
    name: str | None,
    expression: str | None,
    repository: Path,
    as_json: bool,
) -> None:
    """Apply patches to a packaged kernel, and show which scenarios then end differently.

    A series that changes drivers/vfio only rebuilds the modules it touches; any other series needs
    an incremental build. Exits with 0 if nothing got worse, 1 if something did, 125 if a patch does
    not apply or compile.
    """
    from vfio_lab.campaign import compare, runs
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import packaged, series, trial
    from vfio_lab.util.cache import Cache

    cache = Cache.default().open()
    chosen = name or packaged.kernel_catalogue().default
    packaged.kernel_catalogue().spec(chosen)
    found = series.read_series(patches, repository)
    base = packaged.ensure_packaged_kernel(chosen, cache)
    made = trial.patched(chosen, found, cache)
    choice = runs.Choice(expression=expression, jobs=runs.jobs())
    where = new_evidence("try")
    before = runs.cached(base, chosen, choice, where / "before", cache)
    title = f"Running scenarios on kernel {made.name}"
    after = runs.run_scenarios(made.bzimage.parent, choice, where / "after", title, at_once(before))
    if not after.scenarios:
        raise BuildError("no scenario could be judged", where=where)
    rows = compare.rows([before, after])
    differing = [row for row in rows if row.differs]
    if as_json:
        click.echo(json.dumps([difference_record(row) for row in differing], indent=1))
    else:
        click.echo(f"{chosen} with {'; '.join(patch.name for patch in found)}:")
        for row in differing:
            print_difference(row)
        click.echo(f"{len(rows)} scenarios, {len(differing)} differ; evidence: {where}")
    context.exit(1 if any(row.worsened for row in rows) else 0)


def at_once(before: Results) -> Heard:
    """Return a callback that reports each scenario whose outcome differs, as soon as it ends."""
    from rich.text import Text

    from vfio_lab.util import progress

    expected = {record.nodeid: record.outcome for record in before.scenarios}

    def heard(nodeid: str, outcome: Outcome) -> None:
        was = expected.get(nodeid, outcome)
        if outcome is not was:
            line = f"{nodeid}: {was.value} before, {outcome.value} now"
            progress.display().say(Text(line))

    return heard


def print_difference(row: Difference) -> None:
    """Print a scenario whose outcome differs."""
    from vfio_lab.campaign import compare
    from vfio_lab.spec import claims

    click.echo(f"\n{row.nodeid}")
    for claim in row.claims:
        click.echo(f"  {claim}     {claims.load_claims()[claim].sentence}")
    for when, record in zip(("before", "after"), row.records, strict=True):
        click.echo(f"  {when:7} {compare.told(record)}")


def difference_record(row: Difference) -> dict[str, object]:
    """Return a difference as a JSON object."""
    from vfio_lab.campaign import compare

    before, after = (compare.told(record) for record in row.records)
    return {"scenario": row.nodeid, "claims": row.claims, "before": before, "after": after}
