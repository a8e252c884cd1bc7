"""Devices as their driver sees them: registers and DMA, one file a device.

A device that the lab should drive gets a file here (or in a project of its own) with its registers
and a class over an open device. One that copies memory offers what `DmaDriver` says.

Source: tools/testing/selftests/vfio/lib/include/libvfio/vfio_pci_driver.h, struct
vfio_pci_driver_ops.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from vfio_lab.client.sysfs import PciFunction
from vfio_lab.drivers.e1000 import E1000
from vfio_lab.drivers.igb import Igb
from vfio_lab.drivers.intel_nic import IntelNic
from vfio_lab.hw import models
from vfio_lab.util.extensions import join, load_extensions
from vfio_lab.util.project import once_a_project
from vfio_lab.vfio.device import Device


class DmaDriver(Protocol):
    """A device that copies memory for its user."""

    def start(self) -> None:
        """Give the device its rings; their memory must be mapped for it."""

    def copy(self, data: bytes) -> bytes:
        """Have the device copy `data` and return what its target holds then."""


NICS: Mapping[int, type[IntelNic]] = MappingProxyType(
    {models.E1000.device: E1000, models.E1000E.device: E1000, models.IGB.device: Igb}
)


@once_a_project
def nic_drivers() -> Mapping[str, type[IntelNic]]:
    """Return the drivers of NICs, of the lab and of extensions, by device ID as sysfs has it.

    Raises:
        UsageError: two are for one device.
    """
    places: list[tuple[object, Mapping[int, type[IntelNic]]]] = [("the lab's own", NICS)]
    for each in load_extensions():
        places.append((each.folder / "drivers.py", each.value("drivers", "NICS", {})))
    named = [(place, {f"{key:#06x}": one for key, one in nics.items()}) for place, nics in places]
    return join("driver of device", named)


def nic_driver(function: PciFunction, device: Device) -> IntelNic:
    """Return the driver of an open Intel NIC; one that has no file here has plain registers.

    Args:
        function: the NIC, which says what it is.
        device: the NIC, open.
    """
    return nic_drivers().get(function.read("device").strip(), IntelNic)(device)
