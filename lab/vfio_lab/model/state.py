"""The state of the model: functions, open files and the users who hold them.

Only what cannot be derived is stored. Whether a group is open, who owns its DMA, how many users
the VFs of a PF have: these are questions to the open files, as answered below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from vfio_lab.model.hardware import Place, Platform

VFIO = "vfio-pci"
# Drivers that leave the DMA of their devices alone: they do not make a group unviable (E05, E06).
MANAGED = frozenset({VFIO, "pci-stub", "pcieport", None})


@dataclass
class PciModel:
    """A PCI function that is present."""

    place: Place  # what it is in hardware
    driver: str | None = None
    vfs: int = 0  # how many VFs it has
    token: str | None = None  # the VF token of a PF on vfio-pci
    token_pf: str | None = None  # the PF whose token a VF needs, decided when vfio-pci binds (A45)
    iommufd: int | None = None  # the iommufd that the open device is bound to
    noiommu: bool = False  # whether it is on vfio-pci without an IOMMU
    marked: bool = False  # whether a register has what a user wrote, which a reset wipes

    @property
    def role(self) -> str:
        """Its name."""
        return self.place.role

    @property
    def group(self) -> str | None:
        """Its group's name; without an IOMMU vfio-pci makes one for each device (D09)."""
        return self.role if self.noiommu else self.place.group


@dataclass
class ContainerModel:
    """An open /dev/vfio/vfio."""

    type: int = 0  # the IOMMU type, 0 if it is not set
    maps: frozenset[int] = frozenset()  # the numbers of the pages that are mapped


@dataclass
class IommufdModel:
    """An open /dev/iommu."""

    compat: bool = False  # whether it has the address space that stands in for a container's
    noiommu: bool = False  # whether a no-IOMMU group was attached to it


@dataclass
class GroupModel:
    """An open group."""

    group: str  # its name
    noiommu: bool = False  # whether vfio made it for a device without an IOMMU
    container: int | None = None  # the file that it is attached to, a container or an iommufd
    gone: bool = False  # whether its last device has left vfio


@dataclass
class DeviceModel:
    """An open device."""

    role: str  # the function's
    cdev: bool  # whether it was opened by its character device
    usable: bool  # always by a group, after a bind by a character device
    iommufd: int | None = None  # the iommufd that it was opened with


File: TypeAlias = ContainerModel | IommufdModel | GroupModel | DeviceModel
Kind = TypeVar("Kind", bound=File)


@dataclass
class State:
    """Everything that an answer can depend on."""

    platform: Platform
    privileged: dict[str, bool]  # the users, and whether each has CAP_SYS_RAWIO
    functions: dict[str, PciModel]  # those present, by role
    descriptors: dict[str, tuple[str, int]] = field(default_factory=dict)  # by name: user and file
    files: dict[int, File] = field(default_factory=dict)  # also those that only the kernel holds
    enable_sriov: bool = False  # a parameter of vfio_pci
    noiommu: bool = False  # the parameter enable_unsafe_noiommu_mode of vfio
    tainted: bool = False  # whether the kernel has TAINT_USER
    log: tuple[str, ...] = ()  # of the last step that is looked at the log after

    def file(self, name: str) -> File | None:
        """Return the file behind a descriptor, None if it is closed."""
        return self.files[self.descriptors[name][1]] if name in self.descriptors else None

    def open(self, name: str, kind: type[Kind]) -> Kind:
        """Return the file of a certain kind behind an open descriptor."""
        file = self.file(name)
        assert isinstance(file, kind)
        return file

    def number(self, name: str) -> int:
        """Return the number of the file behind an open descriptor."""
        return self.descriptors[name][1]

    def descriptors_of(self, user: str, *kinds: type[File]) -> list[str]:
        """Return the names of a user's descriptors of files of certain kinds, or of all."""
        return [
            name
            for name, (owner, number) in self.descriptors.items()
            if owner == user and isinstance(self.files[number], kinds or object)
        ]

    def groups(self, group: str | None) -> Iterator[tuple[int, GroupModel]]:
        """Yield the open files of a group that still has a device: none or one."""
        for number, file in self.files.items():
            if isinstance(file, GroupModel) and file.group == group and not file.gone:
                yield number, file

    def devices(self, role: str) -> list[DeviceModel]:
        """Return the open files of a device, those of an unbound character device included."""
        found = (file for file in self.files.values() if isinstance(file, DeviceModel))
        return [file for file in found if file.role == role]

    def opens(self, role: str) -> int:
        """Return how often a device is open."""
        return sum(file.usable for file in self.devices(role))

    def members(self, group: str | None) -> list[PciModel]:
        """Return the functions in a group."""
        return [each for each in self.functions.values() if group and each.group == group]

    def opened_in(self, group: str | None) -> list[DeviceModel]:
        """Return the open files of the devices in a group."""
        return [file for each in self.members(group) for file in self.devices(each.role)]

    def owner(self, group: str | None) -> object:
        """Return who owns the DMA of a group: a user's file, "kernel" or nobody (E01, E12, E25)."""
        for number, file in self.groups(group):
            if isinstance(self.files.get(file.container or 0), ContainerModel):
                return None if file.noiommu else ("group", number)
        for each in self.members(group):
            if each.iommufd is not None and not each.noiommu:
                return ("iommufd", each.iommufd)
        unmanaged = [each for each in self.members(group) if each.driver not in MANAGED]
        return "kernel" if unmanaged else None

    def vf_users(self, pf: str) -> int:
        """Return how many VFs that need a PF's token are in use (A17, A20)."""
        return sum(self.opens(vf.role) > 0 for vf in self.functions.values() if vf.token_pf == pf)

    def attached(self, container: int) -> list[GroupModel]:
        """Return the groups that are attached to a container."""
        found = (file for file in self.files.values() if isinstance(file, GroupModel))
        return [file for file in found if file.container == container]

    def is_iommufd(self, number: int | None) -> bool:
        """Return whether a file is an iommufd."""
        return isinstance(self.files.get(number or 0), IommufdModel)


def fresh(platform: Platform, privileged: dict[str, bool]) -> State:
    """Return the state of a guest that nobody has touched."""
    present = [each for each in platform.places.values() if each.pf is None]
    functions = {one.role: PciModel(one, "pcieport" if one.bridge else None) for one in present}
    return State(platform, dict(privileged), functions)
