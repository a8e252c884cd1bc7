"""PCI addresses as values, and the names that Linux gives to what stands there.

Paths are the guest's: they are strings to send, never opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from vfio_lab.errors import UsageError

DEVICES = PurePosixPath("/sys/bus/pci/devices")
DRIVERS = PurePosixPath("/sys/bus/pci/drivers")
IOMMU_GROUPS = PurePosixPath("/sys/kernel/iommu_groups")

LARGEST = {"domain": 0xFFFF, "bus": 0xFF, "device": 0x1F, "function": 0x7}

# Leading zeros as in sysfs: "1:0.0" is printed by no tool, so it is a typing error.
_WRITTEN = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Bdf:
    """The address of one PCI function, its parts in the order in which they are written.

    Args:
        domain: 0 to 0xffff.
        bus: 0 to 0xff.
        device: 0 to 0x1f.
        function: 0 to 7.

    Raises:
        UsageError: a part is out of range.
    """

    domain: int
    bus: int
    device: int
    function: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no function can have."""
        for name, largest in LARGEST.items():
            value: int = getattr(self, name)
            if not 0 <= value <= largest:
                raise UsageError(
                    f"no PCI function has this {name} number",
                    expected=f"0 to {largest:#x}",
                    seen=f"{value:#x}",
                )

    @classmethod
    def parse(cls, text: str) -> Bdf:
        """Return the address written as `0000:01:10.0` or `01:10.0`.

        Raises:
            UsageError: it is written otherwise, or a part is out of range.
        """
        written = _WRITTEN.fullmatch(text)
        if written is None:
            raise UsageError("not a PCI address", expected="like 0000:01:10.0", seen=repr(text))
        domain, bus, device, function = (int(part or "0", 16) for part in written.groups())
        return cls(domain, bus, device, function)

    @classmethod
    def from_routing_id(cls, routing_id: int, domain: int = 0) -> Bdf:
        """Return the address of a 16-bit requester ID.

        Raises:
            UsageError: the ID has more than 16 bits.
        """
        return cls(domain, routing_id >> 8, routing_id >> 3 & 0x1F, routing_id & 0x7)

    def __repr__(self) -> str:
        """Return `Bdf(0000:01:10.0)`."""
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        """Return the name that sysfs and vfio use, `0000:01:10.0`."""
        return f"{self.domain:04x}:{self.short}"

    @property
    def short(self) -> str:
        """The address without its domain, for people: `01:10.0`."""
        return f"{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def devfn(self) -> int:
        """Device and function as one byte, as in hot-reset info."""
        return self.device << 3 | self.function

    @property
    def routing_id(self) -> int:
        """Bus, device and function as the 16 bits that a transaction carries."""
        return self.bus << 8 | self.devfn

    @property
    def sysfs(self) -> PurePosixPath:
        """The device's folder in sysfs."""
        return DEVICES / str(self)

    def attribute(self, name: str) -> str:
        """Return the path of one of the device's files in sysfs, such as `sriov_numvfs`."""
        return str(self.sysfs / name)

    def virtfn(self, index: int) -> str:
        """Return the path of a PF's link to its VF, counted from 0."""
        return self.attribute(f"virtfn{index}")


def driver_file(driver: str, name: str) -> str:
    """Return the path of a PCI driver's file in sysfs, such as `bind` or `unbind`."""
    return str(DRIVERS / driver / name)


def vf_bdf(pf: Bdf, index: int, *, offset: int, stride: int) -> Bdf:
    """Return where a VF appears.

    Args:
        pf: its PF.
        index: counted from 0, as in `virtfn0`.
        offset: First VF Offset of the SR-IOV capability, in routing IDs.
        stride: VF Stride, in routing IDs.

    Raises:
        UsageError: a negative index, an offset or stride that SR-IOV forbids, or an address
            past the last bus.

    Source: drivers/pci/iov.c, pci_iov_virtfn_bus() and pci_iov_virtfn_devfn().
    """
    if index < 0:
        raise UsageError("VFs are counted from 0", device=str(pf), seen=str(index))
    if offset < 1 or (index and stride < 1):
        raise UsageError(
            "VFs cannot be where their PF is",
            device=str(pf),
            expected="offset and stride of at least 1",
            seen=f"offset {offset}, stride {stride}",
        )
    return Bdf.from_routing_id(pf.routing_id + offset + index * stride, pf.domain)
