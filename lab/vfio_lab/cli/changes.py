"""`vfio-lab changes`: what behaves differently from one kernel to the next."""

from __future__ import annotations

from pathlib import Path

import click

from vfio_lab.cli.options import no_jail, scenario_choice, split_scenarios


@click.command()
@click.argument("words", metavar="KERNEL KERNEL... [SCENARIO]...", nargs=-1, required=True)
@scenario_choice
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write to this file; print by default."
)
@no_jail
@click.pass_context
def changes(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    words: tuple[str, ...],
    expression: str | None,
    jobs: int | None,
    hosts: str | None,
    output: Path | None,
) -> None:
    """Write as Markdown what behaves differently from each KERNEL to the next.

    Each difference stands below the kernel commit that explains it, with the claims about it, or is
    listed as unexplained. A KERNEL is a name or a path, as for `pytest --lab-kernel`, or the
    evidence folder of a run, whose results are taken. A SCENARIO is a node ID or a file of
    scenarios; all run if none is named.

    Exits with 125 if no scenario ran on two kernels.
    """
    from vfio_lab.campaign import behaviour, kernel_changes, recorded, runs
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.errors import LabError, UsageError
    from vfio_lab.util.cache import Cache
    from vfio_lab.util.files import write_whole

    kernels, scenarios = split_scenarios(words)
    where = new_evidence("changes")
    choice = runs.Choice.asked(scenarios, expression, jobs, hosts)
    found = recorded.results_on(kernels, choice, where, Cache.default().open())
    if len(found) < 2:  # noqa: PLR2004 - a comparison takes two
        raise UsageError("behaviour is compared between two kernels", seen=" ".join(kernels))
    steps = behaviour.compare_in_turn(found, where)
    names = " ".join(run.kernel["name"] for run in found)
    text = kernel_changes.changes_markdown(found, f"vfio-lab changes {names}")
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(output.absolute(), text, 0o644)
    click.echo(f"evidence: {where}", err=True)
    context.exit(0 if any(step.compared for step in steps) else LabError.exit_code)
