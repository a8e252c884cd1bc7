"""`vfio-lab cache`: show, explain, clean, export and import the cache."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from vfio_lab.errors import UsageError
from vfio_lab.util.cache import MANIFEST, Cache
from vfio_lab.util.cache_use import in_use
from vfio_lab.util.host import megabytes

# Kinds that are rebuilt within a minute; the others need a download or a long build.
CHEAP = frozenset(
    {
        "template",
        "trial",
        "modules",
        "payload",
        "initramfs",
        "image",
        "accelerator",
        "branch",
        "logs",
    }
)
# A running build may hold a lock; without the keys, existing templates do not accept SSH.
LASTING = frozenset({"locks", "keys"})
IN_USE_S = 3600.0
DAY_S = 86400.0
UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _size(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)([MGT])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no size such as 500M or 20G")
    return int(match[1]) * UNITS[match[2]]


@click.group()
def cache() -> None:
    """Show the contents of the cache, clean it, hand it on."""


@cache.command()
def show() -> None:
    """List the kinds of entries in the cache, with count and size."""
    root = Cache.default().open().root
    total = 0
    for folder in _kinds(root):
        size = _disk_bytes(folder)
        total += size
        entries = len(list(folder.glob(f"*/{MANIFEST}")))
        click.echo(f"{folder.name:12} {entries or '':>4} {megabytes(size):>9}")
    click.echo(f"{'total':12} {'':>4} {megabytes(total):>9}  in {root}")


@cache.command("list")
def list_() -> None:
    """List all entries with size and days since the last use."""
    store = Cache.default().open()
    for kind, key in _entries(store):
        size = megabytes(_disk_bytes(store.path(kind, key)))
        days = (time.time() - store.last_use(kind, key)) / DAY_S
        click.echo(f"{kind:12} {key:40} {size:>9} {days:6.1f} days")


@cache.command()
@click.argument("key", metavar="KEY")
def why(key: str) -> None:
    """Show what an entry was made of, and what differs in the one most like it.

    KEY is the key of an entry, or the start of one.
    """
    from vfio_lab.util import cache_inputs

    store = Cache.default().open()
    found = [(kind, name) for kind, name in _entries(store) if name.startswith(key)]
    if len(found) != 1:
        seen = ", ".join(" ".join(place) for place in found[:5]) or "none"
        raise UsageError(
            f"one entry must have the key {key}", seen=seen, hint="vfio-lab cache list"
        )
    click.echo("\n".join(cache_inputs.explain(store, *found[0])))


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Delete kernels, sources and ccache too.")
def clean(everything: bool) -> None:
    """Delete entries that are quickly rebuilt: templates, images, payloads and logs."""
    store = Cache.default().open()
    freed = 0
    for folder in _kinds(store.root):
        if folder.name in LASTING or not (everything or folder.name in CHEAP):
            continue
        freed += _disk_bytes(folder)
        for key in store.keys(folder.name):
            store.remove(folder.name, key)
        if not any(folder.glob(".*")):  # a scratch folder belongs to a running build
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"freed {megabytes(freed)} in {store.root}")


@cache.command()
@click.option("--older", metavar="DAYS", type=click.FloatRange(0), help="Not used for so long.")
@click.option(
    "--over", metavar="SIZE", callback=_size, help="Until the entries are this small: 20G."
)
def prune(older: float | None, over: int | None) -> None:
    """Delete entries that were not used lately; what is in use, or was within an hour, stays."""
    if older is None and over is None:
        raise click.UsageError("pass --older DAYS, --over SIZE, or both")
    store = Cache.default().open()
    ages = {place: time.time() - store.last_use(*place) for place in _entries(store)}
    sizes = {place: _disk_bytes(store.path(*place)) for place in ages}
    total, freed = sum(sizes.values()), 0
    for place in sorted(ages, key=ages.__getitem__, reverse=True):
        old = older is not None and ages[place] > older * DAY_S
        large = over is not None and total - freed > over
        lately = ages[place] <= IN_USE_S or in_use(store.path(*place))
        if place[0] not in LASTING and not lately and (old or large):
            store.remove(*place)
            freed += sizes[place]
    click.echo(f"freed {megabytes(freed)} of {megabytes(total)} in {store.root}")


@cache.command("export")
@click.argument("names", metavar="[KERNEL]...", nargs=-1)
@click.option("--images", is_flag=True, help="Take all images, not only those of templates.")
@click.option("-o", "--output", metavar="FILE", required=True, help="The file; - is stdout.")
def export_(names: tuple[str, ...], images: bool, output: str) -> None:
    """Write kernels, with sources and templates, to a file for `cache import`.

    Without a KERNEL, all kernels that are built. A template needs the QEMU that froze it. The SSH
    keys of its guests go with it.
    """
    from vfio_lab.machine import portable
    from vfio_lab.util import cache_archive
    from vfio_lab.util.files import replacing

    store = Cache.default().open()
    chosen = portable.select_entries(store, names, images=images)
    if output == "-":
        cache_archive.export_archive(store, chosen.contents, sys.stdout.buffer)
    else:
        with replacing(Path(output)) as file:
            cache_archive.export_archive(store, chosen.contents, file)
    for entry in chosen.contents.entries:
        click.echo(f"exported {entry}", err=True)
    for reason, count in chosen.left_out.items():
        click.echo(f"left out {count} templates: {reason}", err=True)


@cache.command("import")
@click.argument("source", metavar="FILE", type=click.File("rb"))
def import_(source: BinaryIO) -> None:
    """Read what `cache export` wrote; FILE - is stdin.

    Import only what you trust as you trust the lab: kernels, images and sources are not checked
    against anybody's signature.
    """
    from vfio_lab.machine import portable
    from vfio_lab.util import cache_archive

    store = Cache.default().open()
    done = cache_archive.import_archive(
        store, source, lambda contents: portable.unusable(store, contents)
    )
    for entry in done.new:
        click.echo(f"imported {entry}")
    for entry, reason in done.left_out.items():
        click.echo(f"left out {entry}: {reason}")
    click.echo(
        f"{len(done.new)} new, {len(done.there)} already here, {len(done.left_out)} left out"
    )


def _entries(store: Cache) -> Iterator[tuple[str, str]]:
    for folder in _kinds(store.root):
        for key in store.keys(folder.name):
            yield folder.name, key


def _kinds(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def _disk_bytes(folder: Path) -> int:
    # Memory files are sparse: count allocated blocks, not sizes.
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
