"""`vfio-lab bench`: the lab's own figures."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--clones", default=40, show_default=True, help="Guests to clone in a row.")
@click.option("--quick", is_flag=True, help="A tenth of the other repetitions.")
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
        click.echo(json.dumps({each.key: each.value for each in figures}, indent=2))
    else:
        table = Table("figure", "measured", "bar", "of")
        for each in figures:
            bar = "" if each.bar is None else f"{each.bar:g}"
            style = None if each.holds else "red"
            table.add_row(each.key, f"{each.value:.3f}", bar, str(each.runs), style=style)
        Console().print(table)
    context.exit(0 if all(each.holds for each in figures) else 1)
