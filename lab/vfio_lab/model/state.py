"""The state of the model: functions, open files and the users who hold them.

Only what cannot be derived is stored. Whether a group is open, who owns its DMA, how many users
the VFs of a PF have: these are questions to the open files, as answered below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from vfio_lab.model.hardware import Place, Platform

VFIO = "vfio-pci"
# Drivers that leave the DMA of their devices alone: they do not make a group unviable (E05, E06).
MANAGED = frozenset({VFIO, "pci-stub", "pcieport", None})


@dataclass
class PciModel:
    """A PCI function that is present.

    Args:
        place: what it is in hardware.
        driver: the bound driver.
        vfs: how many VFs it has.
        token: the VF token of a PF on vfio-pci.
        token_pf: the PF whose token a VF needs, decided when vfio-pci binds to the VF (A45).
        iommufd: the iommufd that the open device is bound to.
        noiommu: whether it is on vfio-pci without an IOMMU.
        marked: whether a register of it has what a user wrote, which a reset wipes.
    """

    place: Place
    driver: str | None = None
    vfs: int = 0
    token: str | None = None
    token_pf: str | None = None
    iommufd: int | None = None
    noiommu: bool = False
    marked: bool = False

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
    """An open /dev/vfio/vfio.

    Args:
        type: the IOMMU type, 0 if it is not set.
        maps: the numbers of the pages that are mapped.
    """

    type: int = 0
    maps: frozenset[int] = frozenset()


@dataclass
class IommufdModel:
    """An open /dev/iommu.

    Args:
        compat: whether it has the address space that stands in for a container's.
        noiommu: whether a no-IOMMU group was attached to it.
    """

    compat: bool = False
    noiommu: bool = False


@dataclass
class GroupModel:
    """An open group.

    Args:
        group: its name.
        noiommu: whether vfio made it for a device without an IOMMU.
        container: the file that it is attached to, a container or an iommufd.
        gone: whether its last device has left vfio.
    """

    group: str
    noiommu: bool = False
    container: int | None = None
    gone: bool = False


@dataclass
class DeviceModel:
    """An open device.

    Args:
        role: the function's.
        cdev: whether it was opened by its character device.
        usable: whether it can be used: always by a group, after a bind by a character device.
        iommufd: the iommufd that it was opened with.
        space: whether it is attached to an address space.
    """

    role: str
    cdev: bool
    usable: bool
    iommufd: int | None = None
    space: bool = False


File: TypeAlias = ContainerModel | IommufdModel | GroupModel | DeviceModel


@dataclass
class State:
    """Everything that an answer can depend on.

    Args:
        platform: hardware and kernel.
        privileged: the users, and whether each has CAP_SYS_RAWIO.
        functions: those present, by role.
        descriptors: the open descriptors by name: user and file.
        files: the open files by number, also those that only the kernel still holds.
        parameters: the module parameters enable_sriov and noiommu.
        tainted: whether the kernel has TAINT_USER.
        log: what the kernel logged in the last step that is looked at the log after.
    """

    platform: Platform
    privileged: dict[str, bool]
    functions: dict[str, PciModel]
    descriptors: dict[str, tuple[str, int]] = field(default_factory=dict)
    files: dict[int, File] = field(default_factory=dict)
    parameters: dict[str, bool] = field(
        default_factory=lambda: {"enable_sriov": False, "noiommu": False}
    )
    tainted: bool = False
    log: tuple[str, ...] = ()

    def file(self, name: str) -> File | None:
        """Return the file behind a descriptor, None if it is closed."""
        return self.files[self.descriptors[name][1]] if name in self.descriptors else None

    def number(self, name: str) -> int:
        """Return the number of the file behind an open descriptor."""
        return self.descriptors[name][1]

    def descriptors_of(self, user: str, *kinds: type[File]) -> list[str]:
        """Return the names of a user's descriptors of files of certain kinds."""
        return [
            name
            for name, (owner, number) in self.descriptors.items()
            if owner == user and isinstance(self.files[number], kinds)
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

    def has_cdev_user(self, group: str | None) -> bool:
        """Return whether a device of a group is bound through its character device."""
        devices = [file for each in self.members(group) for file in self.devices(each.role)]
        return any(file.cdev and file.usable for file in devices)

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
        vfs = [each.role for each in self.functions.values() if each.token_pf == pf]
        return sum(self.opens(role) > 0 for role in vfs)

    def attached(self, container: int) -> list[GroupModel]:
        """Return the groups that are attached to a container."""
        found = (file for file in self.files.values() if isinstance(file, GroupModel))
        return [file for file in found if file.container == container]

    def is_iommufd(self, number: int | None) -> bool:
        """Return whether a file is an iommufd."""
        return isinstance(self.files.get(number or 0), IommufdModel)


def fresh(platform: Platform, privileged: dict[str, bool]) -> State:
    """Return the state of a guest that nobody has touched.

    Args:
        platform: its hardware and its kernel.
        privileged: the users, and whether each has CAP_SYS_RAWIO.
    """
    present = [each for each in platform.places.values() if each.pf is None]
    drivers = {True: "pcieport", False: None}
    functions = {each.role: PciModel(each, drivers[each.bridge]) for each in present}
    return State(platform, dict(privileged), functions)
