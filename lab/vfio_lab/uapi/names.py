"""The kernel's names of ioctl numbers, for transcripts.

Numbers are shared: 0x3b71 is VFIO_DEVICE_PCI_HOT_RESET on a device and VFIO_IOMMU_MAP_DMA on a
container. Only the kind of file tells which.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from vfio_lab.uapi import iommufd, vfio, vfio_migration, vfio_type1


class Kind(enum.Enum):
    """The kind of file that a user's descriptor refers to."""

    CONTAINER = "container"
    GROUP = "group"
    DEVICE = "device"
    IOMMUFD = "iommufd"
    MIGRATION = "migration"


def _table(module: ModuleType, *prefixes: str) -> dict[int, str]:
    return {
        number: name
        for name, number in vars(module).items()
        if isinstance(number, int) and number >> 8 == vfio.VFIO_TYPE and name.startswith(prefixes)
    }


_CONTAINER = _table(vfio, "VFIO_GET_API", "VFIO_CHECK", "VFIO_SET") | _table(vfio_type1, "VFIO_")
_IOMMUFD = _table(iommufd, "IOMMU_")
NAMES: Mapping[Kind, Mapping[int, str]] = MappingProxyType(
    {
        # Either may be an iommufd, which answers both; its own numbers start above a container's.
        Kind.CONTAINER: MappingProxyType(_CONTAINER | _IOMMUFD),
        Kind.GROUP: MappingProxyType(_table(vfio, "VFIO_GROUP_")),
        Kind.DEVICE: MappingProxyType(_table(vfio, "VFIO_DEVICE_")),
        Kind.IOMMUFD: MappingProxyType(_CONTAINER | _IOMMUFD),
        Kind.MIGRATION: MappingProxyType(_table(vfio_migration, "VFIO_MIG_")),
    }
)


def ioctl_name(kind: Kind, request: int) -> str:
    """Return the kernel's name of an ioctl on that kind of file, or its number in hex."""
    return NAMES[kind].get(request, f"{request:#x}")
