"""`vfio-lab bench`: measure the lab's own performance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vfio_lab.campaign.figures import Figure, Measured
    from vfio_lab.machine.template import GuestFactory


@click.command()
@click.argument("scenarios", metavar="[SCENARIO]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a table for a document.")
@click.option("--clones", default=40, show_default=True, help="Guests to clone.")
@click.option("--quick", is_flag=True, help="Do a tenth of the other repetitions.")
@click.option("--kernel", "name", help="Kernel to measure with; the newest by default.")
@click.option("--catalogue", is_flag=True, help="Measure the CPU seconds of all scenarios, too.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --catalogue: run that of another checkout in turn, and compare.",
)
@click.option("--check", is_flag=True, help="Time each part of `make check`, too.")
@click.option("--trend", is_flag=True, help="Measure nothing; print the latest runs.")
@click.pass_context
def bench(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    as_json: bool,
    as_markdown: bool,
    clones: int,
    quick: bool,
    name: str | None,
    catalogue: bool,
    against: Path | None,
    check: bool,
    trend: bool,
    scenarios: tuple[str, ...],
) -> None:
    """Measure clones, boots, calls and one whole scenario; exit 1 if a bar is missed.

    SCENARIO is a file, a folder or a node ID: --catalogue runs those instead of all.

    What is compared is run in turn. Each run is added to a history in the cache, with the commit,
    the machine and its load.
    """
    from vfio_lab.campaign import benchmark, costs, figures, runs
    from vfio_lab.machine.template import GuestFactory
    from vfio_lab.util.cache import Cache

    if (scenarios or against) and not catalogue:
        raise click.UsageError("scenarios and --against need --catalogue")
    cache = Cache.default().open()
    history = cache.root / figures.HISTORY
    if trend:
        past = figures.read_measured(history)
        _print_table(*figures.trend(past, figures.machine_name()))
        return
    factory, before = GuestFactory.open(cache, name), figures.machine_load()
    found = benchmark.measure(factory, clones=clones, quick=quick)
    if catalogue:
        jobs = runs.possible_jobs()
        found += costs.measure_catalogue(jobs, factory.kernel.name, against, scenarios)
    if check:
        found += costs.measure_check()
    measured = _measured(factory, found, before)
    figures.append_measured(history, measured)
    _print_measured(measured, as_json=as_json, as_markdown=as_markdown)
    context.exit(0 if all(figure.holds for figure in measured.figures) else 1)


def _measured(factory: GuestFactory, found: Iterable[Figure], load: float) -> Measured:
    """Return the figures of a run with what they were measured on.

    Args:
        factory: kernel and QEMU.
        found: the figures.
        load: the machine's load before.
    """
    from vfio_lab.campaign import figures

    version = ".".join(map(str, factory.caps.version))
    return figures.Measured(
        tuple(found),
        figures.machine_name(),
        f"{factory.accelerator.name}, QEMU {version}, kernel {factory.kernel.release}",
        (load, figures.machine_load()),
        figures.own_commit(),
    )


def _print_measured(measured: Measured, *, as_json: bool, as_markdown: bool) -> None:
    from vfio_lab.campaign import figures

    if as_json:
        click.echo(json.dumps(asdict(measured), indent=2))
    elif as_markdown:
        click.echo(figures.markdown(measured))
    else:
        click.echo(str(measured))
        _print_table(("figure", "measured", "bar", "", "of"), measured.rows())


def _print_table(columns: Iterable[str], lines: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    first, *others = columns
    table = Table(Column(first, no_wrap=True), *others)
    for line in lines:
        table.add_row(*line, style="red" if "missed" in line else None)
    Console().print(table)
