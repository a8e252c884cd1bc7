"""`vfio-lab mutate`: do the scenarios notice faults in vfio?"""

from __future__ import annotations

import json

import click

from vfio_lab.campaign.mutants import Mutant, MutationResult
from vfio_lab.cli.options import scenario_choice, split_scenarios


@click.command()
@click.argument("words", metavar="[FAULT]... [SCENARIO]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), help="Try N mutants, evenly spread.")
@click.option("--on", "kernels", multiple=True, help="Packaged kernel; all by default.")
@click.option(
    "--silent", is_flag=True, help="Try faults that no scenario asserts, by comparing behaviour."
)
@click.option(
    "--explore", "explore_s", type=float, default=0.0, help="Explore for N seconds a topology."
)
@scenario_choice
@click.option("--record", is_flag=True, help="Write down which scenario noticed each.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def mutate(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    words: tuple[str, ...],
    count: int | None,
    kernels: tuple[str, ...],
    silent: bool,
    explore_s: float,
    expression: str | None,
    jobs: int | None,
    hosts: str | None,
    record: bool,
    as_json: bool,
) -> None:
    """Put faults into drivers/vfio, one at a time, and run the scenarios that can reach each.

    Before them a rebuild without a fault, which must pass. A SCENARIO is a node ID or a file of
    scenarios, to run instead of those that can reach a fault. With --explore no scenario is run:
    walks through the model of vfio have to notice, see `vfio-lab explore`. They are asked about
    faults in what the model covers: those noticed by a scenario with a claim of the model's.

    The scenario that noticed a fault when it was last recorded (killers.json beside the faults)
    runs first. --record writes that file.

    --silent builds the faults below faults/silent into one kernel and switches on one at a time.
    The scenarios that reach it stay green; the comparison of behaviour must show it.

    Exits with 0 if all faults are as expected, 1 if one survived, 125 if one could not be judged.
    """
    from vfio_lab.campaign import mutants, runs
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import packaged
    from vfio_lab.util.cache import Cache

    names, scenarios = split_scenarios(words)
    if silent:
        context.exit(_try_silent(names, kernels, jobs or runs.possible_jobs()))
    plan = mutants.Plan(scenarios, expression, jobs or runs.possible_jobs(), explore_s, hosts)
    known = kernels or tuple(mutants.kernels_with_faults())
    where = new_evidence("mutate")
    results = []
    for one in known:
        packaged.kernel_catalogue().spec(one)
        faults = [mutants.run_baseline(one), *_chosen(one, names, count, explored=explore_s > 0)]
        for result in mutants.try_all(faults, plan, where, Cache.default().open()):
            results.append(result)
            click.echo(str(result), err=as_json)
    if record:
        mutants.record_killers(results)
    if as_json:
        click.echo(json.dumps([result_record(result) for result in results], indent=1))
    else:
        click.echo(f"{mutants.mutant_tally(results)}; evidence: {where}")
    context.exit(mutants.mutants_exit_code(results))


def _chosen(
    kernel: str, names: tuple[str, ...], count: int | None, *, explored: bool
) -> list[Mutant]:
    from vfio_lab.campaign import mutants
    from vfio_lab.util.registry import Registry

    known = mutants.read_mutants(kernel)
    named = Registry("fault", {fault.name: fault for fault in known})
    candidates = mutants.within_the_model(known) if explored else known
    return [named[name] for name in names] or mutants.choose_mutants(candidates, count)


def _try_silent(names: tuple[str, ...], kernels: tuple[str, ...], jobs: int) -> int:
    from vfio_lab.campaign import mutants, silent
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.util.cache import Cache
    from vfio_lab.util.registry import Registry

    where = new_evidence("silent")
    results = []
    for kernel in kernels or mutants.kernels_with_faults(silent.SILENT):
        _, faults = silent.read_silent(kernel)
        named = Registry("fault", {fault.name: fault for fault in faults})
        chosen = [named[name] for name in names] or faults
        for result in silent.try_silent(kernel, chosen, jobs, where, Cache.default().open()):
            results.append(result)
            click.echo(str(result))
    click.echo(f"{silent.silent_tally(results)}; evidence: {where}")
    return silent.silent_exit_code(results)


def result_record(result: MutationResult) -> dict[str, object]:
    """Return the result of a mutant as JSON shows it."""
    return {
        "fault": result.fault.name,
        "kernel": result.fault.kernel,
        "breaks": result.fault.breaks,
        "equivalent": result.fault.equivalent,
        "judged": result.judged,
        "killed by": result.killed_by,
        "reason": result.reason,
    }
