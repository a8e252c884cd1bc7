"""`vfio-lab report`: what runs found, as a site to look at."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the site: new, empty, or an older report.",
)
def report(runs: tuple[Path, ...], target: Path) -> None:
    """Write the report of RUNS, the folders of runs on one kernel or several."""
    from vfio_lab.evidence.retention import mark_as_named
    from vfio_lab.report import site

    for run in runs:
        mark_as_named(run)
    click.echo(site.write(runs, target.absolute()))
