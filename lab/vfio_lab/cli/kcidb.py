"""`vfio-lab kcidb`: a run as a report for KCIDB."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

ORIGIN = re.compile("[a-z0-9_]+")


def _origin(_context: click.Context, _option: click.Parameter, name: str) -> str:
    if not ORIGIN.fullmatch(name):
        raise click.BadParameter("an origin consists of lower case letters, digits and _")
    return name


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--origin",
    default="vfio_lab",
    show_default=True,
    callback=_origin,
    help="Name of the CI system, as registered with KCIDB.",
)
def kcidb(run: Path, origin: str) -> None:
    """Print RUN, a run's folder in .artifacts, as a KCIDB document of schema 5.3.

    Nothing is sent; to send it, pipe the output into kcidb-submit.
    """
    from vfio_lab.campaign.results import read_results
    from vfio_lab.report.kcidb import kcidb_report

    click.echo(json.dumps(kcidb_report(read_results(run), run, origin), indent=1))
