"""`vfio-lab explore`: does a kernel do what the model of vfio says, wherever a walk leads?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vfio_lab.cli.options import hosts_option

if TYPE_CHECKING:
    from vfio_lab.model.exploration.explorer import Exploration, Explored


@click.command()
@click.option("--kernel", "kernel_name", metavar="KERNEL", help="As for `pytest --lab-kernel`.")
@click.option("--against", metavar="KERNEL", help="Compare with this kernel, not with the model.")
@click.option("--topology", default="igb", show_default=True, help="The guests' hardware.")
@click.option("--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True)
@click.option("--steps", type=click.IntRange(min=0), default=0, help="Stop after N steps, too.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same walks.")
@hosts_option
@click.pass_context
def explore(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    kernel_name: str | None,
    against: str | None,
    topology: str,
    seconds: float,
    steps: int,
    seed: int,
    hosts: str | None,
) -> None:
    """Have several users do what they like in several guests, and check every answer.

    Each answer is compared with that of the model, or of another kernel. The first disagreement is
    made as short as possible and printed as a scenario.

    Exits with 0 if there is none, 1 if there is one, 125 if nothing can be judged.
    """
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.errors import LabError
    from vfio_lab.hw.catalogue import find_topology
    from vfio_lab.machine.template import GuestFactory
    from vfio_lab.model.exploration import explorer
    from vfio_lab.util.cache import Cache

    hardware = find_topology(topology)
    machine = GuestFactory.open(Cache.default(), kernel_name).boot_spec(hardware)
    other = against and GuestFactory.open(Cache.default(), against).boot_spec(hardware)
    folder = new_evidence("explore")
    exploration = explorer.Exploration(machine, folder, seed, seconds, steps, other or None)
    done = explorer.explore(exploration) if hosts is None else _explore_on(hosts, exploration)
    click.echo(
        f"{done.steps} steps in {done.walks} walks, {done.rate:.0f} a second, "
        f"on kernel {machine.kernel.name}, topology {topology}, seed {seed}",
        err=True,
    )
    if done.found is not None:
        click.echo((folder / explorer.SCENARIO).read_text())
        click.echo(f"{done.found}\n{done.seen}; evidence: {folder}", err=True)
        context.exit(1)
    if not done.walks:
        raise LabError("nothing was explored", seen="no walk ended", hint="give it more --seconds")


def _explore_on(hosts: str, exploration: Exploration) -> Explored:
    """Explore on other hosts, and say which take part and which are lost."""
    from vfio_lab.campaign.spread_exploration import SpreadExploration

    spread = SpreadExploration(exploration, hosts)
    for line in spread.lines:
        click.echo(line, err=True)
    done = spread.explore()
    for name, why in spread.gone.items():
        click.echo(f"host {name} is gone: {why}. Its walks began again elsewhere", err=True)
    return done
