"""`vfio-lab mutate`: do the scenarios notice faults in vfio?"""

from __future__ import annotations

import json

import click

from vfio_lab.campaign.mutants import MutationResult
from vfio_lab.cli.options import scenario_choice, split_scenarios


@click.command()
@click.argument("words", metavar="[FAULT]... [SCENARIO]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), help="Try N mutants, evenly spread.")
@click.option("--on", "kernels", multiple=True, help="Packaged kernel; all by default.")
@scenario_choice
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def mutate(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    words: tuple[str, ...],
    count: int | None,
    kernels: tuple[str, ...],
    expression: str | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Put faults into drivers/vfio, one at a time, and run the scenarios that cover each.

    Before them a rebuild without a fault, which must pass. A SCENARIO is a node ID or a file of
    scenarios, to run instead of those that cover a fault.

    Exits with 0 if all faults are as expected, 1 if one survived, 125 if one could not be judged.
    """
    from vfio_lab.campaign import mutants, runs
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import packaged
    from vfio_lab.util.cache import Cache
    from vfio_lab.util.registry import Registry

    names, scenarios = split_scenarios(words)
    plan = mutants.Plan(scenarios, expression, jobs or runs.possible_jobs())
    known = kernels or tuple(mutants.kernels_with_faults())
    where = new_evidence("mutate")
    fates = []
    for one in known:
        packaged.kernel_catalogue().spec(one)
        named = Registry("fault", {fault.name: fault for fault in mutants.read_mutants(one)})
        chosen = [named[name] for name in names] or mutants.choose_mutants(
            list(named.values()), count
        )
        everything = [mutants.run_baseline(one), *chosen]
        for fate in mutants.try_all(everything, plan, where, Cache.default().open()):
            fates.append(fate)
            click.echo(str(fate), err=as_json)
    if as_json:
        click.echo(json.dumps([result_record(fate) for fate in fates], indent=1))
    else:
        click.echo(f"{mutants.mutant_tally(fates)}; evidence: {where}")
    context.exit(mutants.mutants_exit_code(fates))


def result_record(fate: MutationResult) -> dict[str, object]:
    """Return a fault's fate as JSON shows it."""
    return {
        "fault": fate.fault.name,
        "kernel": fate.fault.kernel,
        "breaks": fate.fault.breaks,
        "equivalent": fate.fault.equivalent,
        "judged": fate.judged,
        "killed by": fate.killed_by,
        "reason": fate.reason,
    }
