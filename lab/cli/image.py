"""`vfio-lab image`: the guest's root file system."""

from __future__ import annotations

import json

import click

from lab import image as images
from lab.cache import Cache
from lab.host import megabytes


@click.group()
def image() -> None:
    """Build, show and remove the guest's root file system."""


@image.command()
def build() -> None:
    """Build the image, unless the cache has it."""
    click.echo(images.obtain(Cache.default()).path)


@image.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(as_json: bool) -> None:
    """Say what the image is made of."""
    made = images.recipe()
    built = images.find(Cache.default())
    packages = {} if built is None else built.packages
    facts = {
        "key": made.key,
        "suite": made.suite,
        "asked_for": list(made.packages),
        "path": None if built is None else str(built.path),
        "digest": None if built is None else built.digest,
        "size_bytes": None if built is None else built.path.stat().st_size,
        "packages": packages,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    click.echo(f"Debian {made.suite} with {', '.join(made.packages)}; recipe {made.key}")
    if built is None:
        click.echo("not built yet: `vfio-lab image build`")
        return
    size = megabytes(built.path.stat().st_size)
    click.echo(f"{built.path}: {size}, {len(packages)} packages, sha256 {built.digest[:16]}")
    for name in made.packages:
        click.echo(f"  {name} {packages.get(name, 'is missing')}")


@image.command()
def remove() -> None:
    """Delete all built images from the cache."""
    for key in images.remove(Cache.default()):
        click.echo(f"removed image {key}")
