"""`vfio-lab bisect`: find the commit that broke a scenario."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.cli.options import config_fragment, no_jail


@click.command()
@click.option(
    "--good", required=True, metavar="COMMIT", help="Commit on which the scenario passes."
)
@click.option("--bad", required=True, metavar="COMMIT", help="Commit on which the scenario fails.")
@click.argument("tree", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("scenario", metavar="[SCENARIO]", required=False)
@click.option(
    "--change",
    metavar="FILE#ID",
    help="Look for a difference of behaviour: the file behaviour.json of a comparison, or its "
    "folder, and the ID of a row.",
)
@config_fragment
@no_jail
def bisect(  # noqa: PLR0913, PLR0917 - the options of the command
    good: str, bad: str, tree: Path, scenario: str | None, change: str | None, config: Path | None
) -> None:
    """Find the commit of TREE that broke SCENARIO, or that changed behaviour.

    SCENARIO is a node ID, a file of scenarios, or an expression as for pytest -k; with --change it
    is the first scenario that showed the difference. TREE is a git repository; it is not written
    to. Both ends are tested first, and a bad verdict is repeated. At the end the bad end is tested
    without the commit. bisect.txt has text for a report; nothing is sent.
    """
    from vfio_lab.campaign import behaviour, bisect_report, bisection, wanted_change
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import gittree
    from vfio_lab.util.cache import Cache
    from vfio_lab.util.files import write_whole

    row = None if change is None else wanted_change.find_row(change)
    if scenario is None and row is not None:
        scenario = row.scenarios[0]
    if scenario is None:
        raise click.UsageError("Name a SCENARIO or a --change.")
    text = "" if row is None else behaviour.deviation_text(row.deviation)
    question = bisection.Question(scenario, config, text)
    question.check()
    where = new_evidence("bisect")
    if row is not None:
        wanted_change.look_for(row, where)
    found = bisection.find_culprit((good, bad), tree.resolve(), question, where, Cache.default())
    if len(found.commits) > 1:
        click.echo("some commits could not be judged; the first bad commit is one of:")
    for commit in found.commits:
        shown = gittree.git(tree, "show", "-s", "--format=%h %an, %as: %s", commit)
        click.echo(f"{'first bad commit: ' if len(found.commits) == 1 else '  '}{shown.strip()}")
    for verdict in found.both_sides(tree):
        click.echo(f"{verdict}\n  evidence: {verdict.evidence}")
    click.echo(bisect_report.revert_line(found, tree))
    report = write_whole(where / "bisect.txt", bisect_report.bisect_text(found, tree, question))
    click.echo(f"report: {report}")
    click.echo(f"replay: git bisect replay {found.log}")
