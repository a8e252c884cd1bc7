"""`vfio-lab bisect-run`: one step of a `git bisect run`."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.cli.options import config_fragment, no_jail


@click.command("bisect-run")
@click.argument("scenario", metavar="SCENARIO")
@click.option(
    "--evidence", type=click.Path(path_type=Path), help="Write the evidence to this folder."
)
@config_fragment
@no_jail
@click.pass_context
def bisect_run(
    context: click.Context, scenario: str, evidence: Path | None, config: Path | None
) -> None:
    """Test the kernel tree in the current folder, for `git bisect run`.

    SCENARIO is a node ID, a file of scenarios, or an expression as for pytest -k. Exits with 0
    (good), 1 (bad, three times), 125 (does not build or boot), 128 (not reproducible; git stops).
    """
    from vfio_lab.campaign import bisection
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.util.cache import Cache
    from vfio_lab.util.files import full, no_space

    where = evidence or new_evidence("bisect")
    found = bisection.judge_commit(
        Path.cwd(), bisection.Question(scenario, config), where, Cache.default().open()
    )
    try:
        bisection.write_verdict(found, where)
    except OSError as error:  # git reads the exit code
        if not full(error):
            raise
        click.echo(f"vfio-lab: {no_space(error)}", err=True)
    click.echo(f"vfio-lab: {found}")
    context.exit(found.code)
