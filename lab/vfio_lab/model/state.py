"""The state of the model: functions, and what users have open.

Only what cannot be derived is stored. A file is open while a descriptor leads to it. Whether a
group is open, who owns its DMA, how many users the VFs of a PF have: these are questions to the
open files, as answered below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from vfio_lab.model.hardware import Place, Platform

VFIO = "vfio-pci"
# Drivers that leave the DMA of their devices alone: they do not make a group unviable (E05, E06).
MANAGED = frozenset({VFIO, "pci-stub", "pcieport", None})


@dataclass(eq=False)
class ContainerModel:
    """An open /dev/vfio/vfio."""

    type: int = 0  # the IOMMU type, 0 if it is not set
    maps: frozenset[int] = frozenset()  # the numbers of the pages that are mapped


@dataclass(eq=False)
class IommufdModel:
    """An open /dev/iommu."""

    compat: bool = False  # whether it has the address space that stands in for a container's
    noiommu: bool = False  # whether a no-IOMMU group was attached to it


@dataclass(eq=False)
class PciModel:
    """A PCI function that is present."""

    place: Place  # what it is in hardware
    driver: str | None = None
    vfs: int = 0  # how many VFs it has
    token: str | None = None  # the VF token of a PF on vfio-pci
    token_pf: PciModel | None = None  # whose token a VF needs, decided when vfio-pci binds (A45)
    iommufd: IommufdModel | None = None  # the iommufd that the open device is bound to
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


@dataclass(eq=False)
class GroupModel:
    """An open group."""

    name: str
    noiommu: bool = False  # whether vfio made it for a device without an IOMMU
    container: ContainerModel | IommufdModel | None = None  # what it is attached to
    gone: bool = False  # whether its last device has left vfio


@dataclass(eq=False)
class DeviceModel:
    """An open device."""

    function: PciModel
    group: GroupModel | None = None  # the group that it keeps open: it uses its container (E16)
    cdev: bool = False  # whether it was opened by its character device
    usable: bool = True  # a character device is after a bind


File: TypeAlias = ContainerModel | IommufdModel | GroupModel | DeviceModel
Kind = TypeVar("Kind", bound=File)


@dataclass
class State:
    """Everything that an answer can depend on."""

    platform: Platform
    privileged: dict[str, bool]  # the users, and whether each has CAP_SYS_RAWIO
    functions: dict[str, PciModel]  # those present, by role
    descriptors: dict[str, tuple[str, File]] = field(default_factory=dict)  # with their users
    enable_sriov: bool = False  # a parameter of vfio_pci
    noiommu: bool = False  # the parameter enable_unsafe_noiommu_mode of vfio
    tainted: bool = False  # whether the kernel has TAINT_USER
    log: tuple[str, ...] = ()  # of the last step that is looked at the log after

    def file(self, name: str) -> File | None:
        """Return the file behind a descriptor, None if it is closed."""
        return self.descriptors[name][1] if name in self.descriptors else None

    def open(self, name: str, kind: type[Kind]) -> Kind:
        """Return the file of a certain kind behind an open descriptor."""
        file = self.file(name)
        assert isinstance(file, kind)
        return file

    def files(self, kind: type[Kind]) -> set[Kind]:
        """Return the files of a certain kind that descriptors lead to."""
        return {file for _, file in self.descriptors.values() if isinstance(file, kind)}

    def devices(self, function: PciModel) -> set[DeviceModel]:
        """Return the open files of a device, unbound character devices included."""
        return {file for file in self.files(DeviceModel) if file.function is function}

    def is_open(self, function: PciModel) -> bool:
        """Return whether a device is open."""
        return any(file.usable for file in self.devices(function))

    def groups(self) -> set[GroupModel]:
        """Return the open groups: by a descriptor, or by a device that uses their container."""
        held = {file.group for file in self.files(DeviceModel) if file.group}
        return held | self.files(GroupModel)

    def group(self, name: str | None) -> GroupModel | None:
        """Return the open file of a group that still has a device."""
        return next((file for file in self.groups() if file.name == name and not file.gone), None)

    def members(self, group: str | None) -> list[PciModel]:
        """Return the functions in a group."""
        return [each for each in self.functions.values() if group and each.group == group]

    def owner(self, group: str | None) -> object:
        """Return who owns the DMA of a group: a user's file, "kernel" or nobody (E01, E12, E25)."""
        file = self.group(group)
        if file and isinstance(file.container, ContainerModel):
            return None if file.noiommu else file
        for each in self.members(group):
            if each.iommufd and not each.noiommu:
                return each.iommufd
        unmanaged = [each for each in self.members(group) if each.driver not in MANAGED]
        return "kernel" if unmanaged else None

    def attached(self, container: ContainerModel) -> list[GroupModel]:
        """Return the groups that are attached to a container."""
        return [file for file in self.groups() if file.container is container]

    def release(self) -> None:
        """Do what the kernel does at a last close.

        A device that nobody has open leaves its iommufd and is reset (F56); a container without
        groups loses its type (E19).
        """
        for function in self.functions.values():
            if not self.is_open(function):
                function.iommufd, function.marked = None, False
        for container in self.files(ContainerModel):
            if not self.attached(container):
                container.type, container.maps = 0, frozenset()


def fresh(platform: Platform, privileged: dict[str, bool]) -> State:
    """Return the state of a guest that nobody has touched."""
    present = [each for each in platform.places.values() if each.pf is None]
    functions = {one.role: PciModel(one, "pcieport" if one.bridge else None) for one in present}
    return State(platform, dict(privileged), functions)
