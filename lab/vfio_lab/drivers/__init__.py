"""Device drivers in user space: registers and DMA, one file per device.

To add a device, add a file here or in a project's extension, with the device's registers and a
class that takes an open device. A device that copies memory implements `DmaDriver`.

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
        """Set up the device's rings; their memory must be mapped for the device."""

    def copy(self, data: bytes) -> bytes:
        """Make the device copy `data`, and return the contents of the target."""


NICS: Mapping[int, type[IntelNic]] = MappingProxyType(
    {models.E1000.device: E1000, models.E1000E.device: E1000, models.IGB.device: Igb}
)


@once_a_project
def nic_drivers() -> Mapping[str, type[IntelNic]]:
    """Return the lab's and the extensions' NIC drivers, by device ID in sysfs format.

    Raises:
        UsageError: there are two drivers for one device.
    """
    places: list[tuple[object, Mapping[int, type[IntelNic]]]] = [("the lab's own", NICS)]
    for extension in load_extensions():
        found: Mapping[int, type[IntelNic]] = extension.value("drivers", "NICS", {})
        places.append((extension.folder / "drivers.py", found))
    named = [
        (place, {f"{device:#06x}": driver for device, driver in nics.items()})
        for place, nics in places
    ]
    return join("driver of device", named)


def nic_driver(function: PciFunction, device: Device) -> IntelNic:
    """Return the driver of an open Intel NIC; `IntelNic` for NICs without their own driver.

    Args:
        function: the NIC's PCI function, whose device ID selects the driver.
        device: the open NIC.
    """
    return nic_drivers().get(function.read("device").strip(), IntelNic)(device)
