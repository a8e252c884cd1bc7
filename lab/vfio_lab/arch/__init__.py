"""Architectures that guests can have: one record each, in a file of its own."""

from __future__ import annotations

from types import MappingProxyType

from vfio_lab.arch.record import Architecture
from vfio_lab.arch.x86_64 import X86_64

ARCHITECTURES = MappingProxyType({each.name: each for each in (X86_64,)})

__all__ = ["ARCHITECTURES", "X86_64", "Architecture"]
