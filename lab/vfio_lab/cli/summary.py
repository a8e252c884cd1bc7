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
@click.option("--tested-by", is_flag=True, help="Add a Tested-by line with git's user.name.")
def summary(run: Path, thread: str | None, base: Path | None, tested_by: bool) -> None:
    """Summarize RUN for a reply: kernel, what changed, what could not be judged, how to repeat it.

    RUN is a run's folder in .artifacts, or that of a `try`, which is compared with its base.
    """
    from vfio_lab.campaign import behaviour, results
    from vfio_lab.campaign.series_trial import AFTER, BEFORE
    from vfio_lab.evidence.retention import mark_as_named
    from vfio_lab.kernels import gittree
    from vfio_lab.report.summary import summarize as summed_up

    mark_as_named(run)
    tried = (run / AFTER).is_dir()
    against = base or (run / BEFORE if tried else None)
    found = results.read_results(run / AFTER if tried else run)
    before = results.read_results(against) if against else None
    compared = behaviour.read_comparisons(run / behaviour.BEHAVIOUR) if tried and not base else ()
    tester = gittree.user(Path.cwd()) if tested_by else ""
    click.echo(summed_up(found, thread, before, compared, tester))
