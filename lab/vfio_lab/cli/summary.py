"""`vfio-lab summary`: a run in a paragraph, for a reply to the list."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.spec.claims import threads

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--thread", help=f"List one thread claim by claim: {', '.join(threads())}.")
@click.option("--base", type=FOLDER, help="Folder of another run to compare with.")
def summary(run: Path, thread: str | None, base: Path | None) -> None:
    """Summarize RUN, a run's folder in .artifacts: kernel, verdicts by claim, failures."""
    from vfio_lab.campaign import results
    from vfio_lab.evidence.retention import mark_as_named
    from vfio_lab.report.summary import summarize as summed_up

    mark_as_named(run)
    against = results.read_results(base) if base else None
    click.echo(summed_up(results.read_results(run), thread, against))
