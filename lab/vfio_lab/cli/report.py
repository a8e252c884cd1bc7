"""`vfio-lab report`: the results of runs as a web site, and an index of such sites."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.errors import UsageError

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("runs", nargs=-1, type=FOLDER)
@click.option(
    "--to",
    "target",
    type=FOLDER,
    help="Folder for the report: a new or empty folder, or an older report.",
)
@click.option(
    "--index",
    type=FOLDER,
    help="Folder of reports to list: index.html, latest.html and, with --url, an Atom feed.",
)
@click.option("--url", default="", help="Address at which the folder of --index is published.")
def report(runs: tuple[Path, ...], target: Path | None, index: Path | None, url: str) -> None:
    """Write the report of RUNS, which are folders of runs on one or more kernels.

    With --index and without RUNS, list the reports that are there.
    """
    from vfio_lab.evidence.retention import mark_as_named
    from vfio_lab.report import published, site

    if bool(runs) != bool(target) or not (runs or index):
        raise UsageError(
            "vfio-lab report needs runs and a folder for their report, or a folder of reports",
            seen=f"{len(runs)} runs, {'a' if target else 'no'} folder for a report",
            hint="vfio-lab report RUN... --to DIR, vfio-lab report --index DIR, or both",
        )
    if url and not (index and url.startswith(("https://", "http://"))):
        raise UsageError(
            "--url needs --index and an address",
            expected="--index DIR --url https://...",
            seen=f"--url {url}",
            hint="name the address at which the folder of --index is published",
        )
    if target:
        for run in runs:
            mark_as_named(run)
        click.echo(site.write(runs, target.absolute()))
    if index:
        click.echo(published.write_index(index.absolute(), url))
