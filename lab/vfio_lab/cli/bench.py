"""`vfio-lab bench`: measure the lab's own performance."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--clones", default=40, show_default=True, help="Guests to clone in a row.")
@click.option("--quick", is_flag=True, help="Do a tenth of the other repetitions.")
@click.option("--kernel", "name", help="Kernel to measure with; the newest by default.")
@click.pass_context
def bench(
    context: click.Context, as_json: bool, clones: int, quick: bool, name: str | None
) -> None:
    """Measure clones, boots, calls and one whole scenario; exit 1 if a bar is missed."""
    from vfio_lab.campaign import benchmark as figures_of
    from vfio_lab.machine.template import GuestFactory
    from vfio_lab.util.cache import Cache

    figures = figures_of.measure(
        GuestFactory.open(Cache.default(), name), clones=clones, quick=quick
    )
    if as_json:
        click.echo(json.dumps({figure.key: figure.value for figure in figures}, indent=2))
    else:
        table = Table("figure", "measured", "bar", "of")
        for figure in figures:
            bar = "" if figure.bar is None else f"{figure.bar:g}"
            style = None if figure.holds else "red"
            table.add_row(figure.key, f"{figure.value:.3f}", bar, str(figure.runs), style=style)
        Console().print(table)
    context.exit(0 if all(figure.holds for figure in figures) else 1)
