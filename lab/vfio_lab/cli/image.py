"""`vfio-lab image`: the guests' root file systems."""

from __future__ import annotations

import json

import click

from vfio_lab.image import rootfs as images
from vfio_lab.util.cache import Cache
from vfio_lab.util.host import megabytes


@click.group()
def image() -> None:
    """Build, show and remove the guests' root file systems."""


@image.command()
@click.argument("name", default=images.BASE)
def build(name: str) -> None:
    """Build an image, unless it is in the cache."""
    click.echo(images.ensure_image(Cache.default(), name).path)


@image.command()
@click.argument("name", default=images.BASE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show the contents of an image."""
    made = images.recipe(name)
    built = images.find_image(Cache.default(), name)
    packages = {} if built is None else built.packages
    facts = {
        "name": name,
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
        click.echo(f"not built yet: `vfio-lab image build {name}`")
        return
    size = megabytes(built.path.stat().st_size)
    click.echo(f"{built.path}: {size}, {len(packages)} packages, sha256 {built.digest[:16]}")
    for package in made.packages:
        click.echo(f"  {package} {packages.get(package, 'is missing')}")


@image.command()
def remove() -> None:
    """Delete all built images from the cache."""
    for key in images.remove_image(Cache.default()):
        click.echo(f"removed image {key}")
