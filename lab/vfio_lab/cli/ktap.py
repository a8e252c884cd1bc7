"""`vfio-lab ktap`: a run as KTAP."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
def ktap(run: Path) -> None:
    """Print RUN, a run's folder in .artifacts, as KTAP version 1.

    The kernel's `tools/testing/kunit/kunit.py parse` and other KTAP tools can read it.
    """
    from vfio_lab.campaign.results import read_results
    from vfio_lab.report.ktap import ktap as as_ktap

    click.echo(as_ktap(read_results(run)), nl=False)
