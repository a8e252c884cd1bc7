"""`vfio-lab bisect`: find the commit that broke a scenario."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.cli.options import no_jail


@click.command()
@click.option(
    "--good", required=True, metavar="COMMIT", help="Commit on which the scenario passes."
)
@click.option("--bad", required=True, metavar="COMMIT", help="Commit on which the scenario fails.")
@click.argument("tree", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("scenario", metavar="SCENARIO")
@no_jail
def bisect(good: str, bad: str, tree: Path, scenario: str) -> None:
    """Find the commit of TREE that broke SCENARIO.

    SCENARIO is a node ID, a file of scenarios, or an expression as for pytest -k. TREE is a git
    checkout; it is not modified. Both ends are tested first, and a bad verdict is repeated.
    """
    from vfio_lab.campaign import bisection
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import gittree
    from vfio_lab.util.cache import Cache

    where = new_evidence("bisect")
    found = bisection.find_culprit((good, bad), tree.resolve(), scenario, where, Cache.default())
    if len(found.commits) > 1:
        click.echo("some commits could not be judged; the first bad commit is one of:")
    for commit in found.commits:
        shown = gittree.git(tree, "show", "-s", "--format=%h %an, %as: %s", commit)
        click.echo(f"{'first bad commit: ' if len(found.commits) == 1 else '  '}{shown.strip()}")
    for verdict in found.both_sides(tree):
        click.echo(f"{verdict}\n  evidence: {verdict.evidence}")
    click.echo(f"replay: git bisect replay {found.log}")
