"""`vfio-lab mutate`: do the scenarios notice faults in vfio?"""

from __future__ import annotations

import json

import click

from vfio_lab.campaign.mutants import MutationResult


@click.command()
@click.argument("names", metavar="[FAULT]...", nargs=-1)
@click.option("-n", "count", type=click.IntRange(min=1), help="Try N mutants, evenly spread.")
@click.option("--on", "kernels", multiple=True, help="Packaged kernel; all by default.")
@click.option("-k", "expression", metavar="EXPR", help="Covering scenarios, as for pytest -k.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def mutate(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    names: tuple[str, ...],
    count: int | None,
    kernels: tuple[str, ...],
    expression: str | None,
    as_json: bool,
) -> None:
    """Put faults into drivers/vfio, one at a time, and run the scenarios that cover each.

    Before them a rebuild without a fault, which must pass. Exits with 1 if a fault survived.
    """
    from vfio_lab.campaign import mutants
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import packaged
    from vfio_lab.util.cache import Cache
    from vfio_lab.util.registry import Registry

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
        for fate in mutants.try_all(everything, expression, where, Cache.default().open()):
            fates.append(fate)
            click.echo(str(fate), err=as_json)
    good = [fate for fate in fates if fate.as_expected]
    if as_json:
        click.echo(json.dumps([result_record(fate) for fate in fates], indent=1))
    else:
        click.echo(f"{len(good)} of {len(fates)} as they should be; evidence: {where}")
    context.exit(0 if len(good) == len(fates) else 1)


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
