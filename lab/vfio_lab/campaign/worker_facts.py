"""Runs on another host: says which QEMU it has, and which entries its cache lacks."""

from __future__ import annotations

import json
import sys

from vfio_lab.errors import LabError
from vfio_lab.qemu.accelerator import choose_accelerator
from vfio_lab.qemu.capabilities import probe_qemu
from vfio_lab.util.cache import Cache


def main() -> None:
    """Read pairs of kind and key, and print what is known, all as JSON."""
    cache = Cache.default().open()
    try:
        qemu = probe_qemu()
    except LabError as error:
        sys.exit(f"{error.what}: {error.seen}")
    facts = {
        "qemu": ".".join(map(str, qemu.version)),
        "digest": qemu.digest,
        "accelerator": choose_accelerator(qemu, cache).name,
        "lacking": [pair for pair in json.load(sys.stdin) if cache.find(*pair) is None],
    }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main()
