"""`vfio-lab report`: the results of runs as a web site."""

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
    help="Folder for the site: a new or empty folder, or an older report.",
)
def report(runs: tuple[Path, ...], target: Path) -> None:
    """Write the report of RUNS, which are folders of runs on one or more kernels."""
    from vfio_lab.evidence.retention import mark_as_named
    from vfio_lab.report import site

    for run in runs:
        mark_as_named(run)
    click.echo(site.write(runs, target.absolute()))
