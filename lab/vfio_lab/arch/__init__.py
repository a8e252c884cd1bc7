"""Architectures of guests: one record for each, in a separate file."""

from __future__ import annotations

from types import MappingProxyType

from vfio_lab.arch.aarch64 import AARCH64
from vfio_lab.arch.record import Architecture
from vfio_lab.arch.x86_64 import X86_64
from vfio_lab.errors import UsageError

ARCHITECTURES = MappingProxyType({record.name: record for record in (X86_64, AARCH64)})


def find_architecture(name: str) -> Architecture:
    """Return the architecture of a name, which is the kernel's, Debian's or that of `uname -m`.

    Raises:
        UsageError: there is none.
    """
    for record in ARCHITECTURES.values():
        if name in (record.name, record.debian):
            return record
    known = ", ".join(record.debian for record in ARCHITECTURES.values())
    raise UsageError(f"there is no architecture {name!r}", expected=f"one of {known}")


__all__ = ["AARCH64", "ARCHITECTURES", "X86_64", "Architecture", "find_architecture"]
