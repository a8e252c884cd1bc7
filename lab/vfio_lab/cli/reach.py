"""`vfio-lab reach`: which scenarios run which lines of the kernel."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import click

from vfio_lab.cli.options import local_choice
from vfio_lab.errors import HostError


@click.command()
@click.option("--on", "name", help="Packaged kernel to record; the newest by default.")
@local_choice
@click.option(
    "--to",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the map; by default reach.json.xz in the evidence folder.",
)
@click.option(
    "--add", is_flag=True, help="Record only scenarios that the map lacks, and add them to it."
)
def reach(
    name: str | None, expression: str | None, jobs: int | None, target: Path | None, add: bool
) -> None:
    """Record which lines of vfio, IOMMU and PCI each scenario runs.

    A plugin of QEMU writes down the code that guests run, so guests run without KVM. `try` and
    `mutate` choose scenarios by the map that is shipped with the lab. To make it again, in a
    checkout:

        vfio-lab reach --to lab/vfio_lab/spec/data/reach.json.xz

    With --add the scenarios that came since are recorded, and the others are kept.
    """
    if importlib.util.find_spec("elftools") is None:
        raise HostError("cannot make the map", seen="no pyelftools", hint="make setup")
    from vfio_lab.campaign import reach_recording, runs, translated
    from vfio_lab.campaign.reach import joined, load_reach, write_reach
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import packaged
    from vfio_lab.qemu.capabilities import probe_qemu
    from vfio_lab.util.cache import Cache

    where = new_evidence("reach")
    kernel = name or packaged.kernel_catalogue().default
    qemu = translated.write_wrapper(where, probe_qemu().binary)
    options = ("--lab-reach", f"--lab-qemu={qemu}")
    choice = runs.Choice(expression=expression, options=options, jobs=jobs or runs.possible_jobs())
    if add:
        names = set(runs.chosen_scenarios(choice)) - set(load_reach().names)
        choice = replace(choice, paths=tuple(sorted(names)), expression=None, single=True)
    found = runs.run_scenarios(kernel, choice, where, f"Running scenarios on kernel {kernel}")
    with reach_recording.with_lines(kernel, Cache.default().open()) as bench:
        known = reach_recording.make_reach(found, where / translated.RAN, bench.out, bench.tree)
    target = target or where / "reach.json.xz"
    write_reach(joined(load_reach(), known) if add else known, target)
    translated.forget_blocks(where)
    unknown = len(found.scenarios) - len(known.names)
    click.echo(f"{len(known.names)} scenarios, {unknown} others skipped or failed: {target}")
