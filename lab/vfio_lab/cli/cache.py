"""`vfio-lab cache`: show and clean the cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from vfio_lab.util.cache import MANIFEST, Cache
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


@click.group()
def cache() -> None:
    """Show the contents of the cache, and clean it."""


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


def _kinds(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def _disk_bytes(folder: Path) -> int:
    # Memory files are sparse: count allocated blocks, not sizes.
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
