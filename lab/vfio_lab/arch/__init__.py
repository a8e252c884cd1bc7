"""Architectures of guests: one record for each, in a separate file."""

from __future__ import annotations

from types import MappingProxyType

from vfio_lab.arch.record import Architecture
from vfio_lab.arch.x86_64 import X86_64

ARCHITECTURES = MappingProxyType({record.name: record for record in (X86_64,)})

__all__ = ["ARCHITECTURES", "X86_64", "Architecture"]
