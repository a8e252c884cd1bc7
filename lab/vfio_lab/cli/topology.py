"""`vfio-lab topology`: the hardware that guests can have."""

from __future__ import annotations

import click

from vfio_lab.hw import drawing
from vfio_lab.hw.catalogue import find_topology as find
from vfio_lab.hw.catalogue import topologies


@click.group()
def topology() -> None:
    """Show the hardware that guests can have."""


@topology.command("list")
def list_() -> None:
    """List all topologies."""
    width = max(len(name) for name in topologies())
    for entry in topologies().values():
        click.echo(f"{entry.name:{width}}  {entry.summary}")


@topology.command()
@click.argument("name")
def show(name: str) -> None:
    """Draw the PCI tree of topology NAME with its IOMMU groups."""
    click.echo(drawing.drawing(find(name)))
