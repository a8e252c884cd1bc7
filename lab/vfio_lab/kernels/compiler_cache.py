"""The folders in which ccache keeps objects."""

from __future__ import annotations

import shutil
from pathlib import Path

from vfio_lab.util.cache import Cache

OWN, FOREIGN = "ccache", "ccache-foreign"


def compiler_cache(cache: Cache, *, foreign: bool) -> Path:
    """Return ccache's folder, making it if need be.

    Untrusted builds have a folder of their own, as they can insert objects. It starts as a copy of
    the lab's own, so that the first of them does not compile a whole kernel.

    Args:
        cache: where the folder lies.
        foreign: whether others wrote what is built.
    """
    own, other = cache.root / OWN, cache.root / FOREIGN
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    if foreign and not other.exists():
        with cache.lock(FOREIGN, "copy"):
            if not other.exists():
                scratch = other.with_name(f".{FOREIGN}.new")
                shutil.rmtree(scratch, ignore_errors=True)
                shutil.copytree(own, scratch, ignore=shutil.ignore_patterns("tmp", "lock"))
                scratch.rename(other)
    return other if foreign else own
