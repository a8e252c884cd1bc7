"""What never changes during a walk: the functions of a guest, and what its kernel can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """A PCI function as the hardware has it, present or not."""

    role: str  # its name; VFs are `pf0.vf0`, `pf0.vf1`, ...
    group: str | None  # its IOMMU group's name, None without an IOMMU
    port: str | None = None  # the role of the port or bridge above it, None on the root bus
    slot: bool = False  # whether a hotplug driver can reset that port's slot
    pf: str | None = None  # the role of the PF that it is a VF of
    total_vfs: int = 0  # how many VFs it can have; 0 if it is not a PF
    bridge: bool = False  # whether it is a port or bridge


@dataclass(frozen=True)
class Platform:
    """Hardware and kernel."""

    places: Mapping[str, Place]  # by role
    changes: frozenset[str] = field(repr=False)  # that the kernel has
    options: frozenset[str] = field(repr=False)  # that the kernel is built with

    def has(self, change: str) -> bool:
        """Return whether the kernel has a change, by its ID in `spec/data/changes.toml`."""
        return change in self.changes

    @property
    def cdev(self) -> bool:
        """Whether devices have character devices."""
        return self.has("5fcc26969a16") and "VFIO_DEVICE_CDEV" in self.options

    @property
    def noiommu_cdev(self) -> bool:
        """Whether devices without an IOMMU have character devices, too."""
        return self.cdev and self.has("e8efdf02d3a9")

    def vfs(self, pf: str, count: int) -> list[str]:
        """Return the roles of the first VFs of a PF."""
        return [f"{pf}.vf{index}" for index in range(count)]

    def is_below(self, role: str, port: str) -> bool:
        """Return whether a function is somewhere below a port."""
        above = self.places[role].port
        return above is not None and (above == port or self.is_below(above, port))

    def slot_of(self, role: str) -> bool:
        """Return whether a hot reset of a function covers a slot, and not a bus (C02).

        pciehp registered only device 0 as the slot's before "PCI: Allow all bus devices to use the
        same slot", and igb's VFs have other device numbers (C03, C04).
        """
        place = self.places[role]
        return place.slot and (place.pf is None or self.has("102c8b26b54e"))

    def reset_with(self, role: str) -> list[str]:
        """Return the functions that a hot reset of a function can cover, none on the root bus."""
        port = self.places[role].port or ""
        covered = [each for each in self.places if self.is_below(each, port)]
        return [each for each in covered if self.slot_of(each)] if self.slot_of(role) else covered

    def device_set(self, role: str) -> str:
        """Return the name of the set of devices that vfio resets together."""
        place = self.places[role]
        alone = place.pf is not None and self.has("e908f58b6beb")
        return role if alone or place.port is None else place.port
