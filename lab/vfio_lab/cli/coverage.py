"""`vfio-lab coverage`: which lines of vfio the scenarios execute."""

from __future__ import annotations

import click


@click.command()
@click.option("--on", "name", help="Packaged kernel to measure; the newest by default.")
@click.option("-k", "expression", metavar="EXPR", help="Select scenarios, as for pytest -k.")
def coverage(name: str | None, expression: str | None) -> None:
    """Run the scenarios on instrumented modules, and show which lines and branches ran.

    The annotated sources are written to .artifacts/coverage-*/html/index.html.
    """
    from vfio_lab.campaign import gcov as counts
    from vfio_lab.campaign import runs
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import packaged
    from vfio_lab.util.cache import Cache

    cache = Cache.default().open()
    where = new_evidence("coverage")
    choice = runs.Choice(expression=expression, jobs=runs.possible_jobs())
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
