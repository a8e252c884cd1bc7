"""`vfio-lab coverage`: which lines of vfio the scenarios execute."""

from __future__ import annotations

import click

from vfio_lab.cli.options import local_choice


@click.command()
@click.option("--on", "name", help="Packaged kernel to measure; the newest by default.")
@click.argument("scenarios", metavar="[SCENARIO]...", nargs=-1)
@local_choice
@click.option(
    "--few",
    is_flag=True,
    help="Leave out scenarios whose lines others run, by the map.",
)
def coverage(
    name: str | None,
    scenarios: tuple[str, ...],
    expression: str | None,
    jobs: int | None,
    *,
    few: bool,
) -> None:
    """Run the scenarios on instrumented modules, and show which lines and branches ran.

    A SCENARIO is a node ID, a file or a folder of scenarios; all run by default.

    The annotated sources are written to .artifacts/coverage-*/html/index.html.
    """
    from dataclasses import replace

    from vfio_lab.campaign import gcov as counts
    from vfio_lab.campaign import runs
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import packaged
    from vfio_lab.util.cache import Cache

    cache = Cache.default().open()
    where = new_evidence("coverage")
    choice = runs.Choice.asked(scenarios, expression, jobs)
    if few:
        enough = counts.enough_scenarios(runs.chosen_scenarios(choice))
        choice = replace(choice, paths=enough, expression=None, single=True)
    with counts.instrumented(name or packaged.kernel_catalogue().default, cache) as (made, bench):
        runs.run_scenarios(
            made.bzimage.parent, choice, where, f"Running scenarios on kernel {made.name}"
        )
        archives = sorted(where.glob(f"*/*/{counts.ARCHIVE}"))
        guests = counts.merge_counts(archives, bench.out, bench.work / "merge", where / "gcov.log")
        found = counts.coverage_report(bench, where / "html")
    click.echo(f"{'lines':>7}  {'':14} {'branches':>8}")
    for each in found:
        click.echo(str(each))
    click.echo(f"{guests} guests; {where / 'html/index.html'}")
