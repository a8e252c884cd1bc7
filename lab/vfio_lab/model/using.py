"""What an open device does: information, address spaces, tokens, resets."""

from __future__ import annotations

from collections.abc import Sequence
from errno import EBADF, EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC, ENOTTY, EPERM

from vfio_lab.model.rules import Facts, deny_if, rule
from vfio_lab.model.state import VFIO, ContainerModel, DeviceModel, GroupModel, PciModel, State
from vfio_lab.uapi.vfio import VFIO_NOIOMMU_IOMMU

RESETTABLE_PCI = 3
REGIONS, IRQ_INDEXES = 9, 5
DEV_ID, OWNED = 1, 2
NOT_OWNED = "not owned"


def _usable(state: State, name: str) -> tuple[DeviceModel, PciModel]:
    """Return an open device and its function; a character device must be bound first (E29)."""
    own = state.open(name, DeviceModel)
    deny_if(not own.usable, EINVAL)
    return own, state.functions[own.role]


@rule("C30", "E29")
def get_info(state: State, user: str, device: str, way: str) -> Facts:
    """VFIO_DEVICE_GET_INFO."""
    _usable(state, device)
    deny_if(way, EINVAL)
    return {"flags": RESETTABLE_PCI, "regions": REGIONS, "irqs": IRQ_INDEXES}


@rule("B37", "C33", "E29")
def reset(state: State, user: str, device: str) -> None:
    """VFIO_DEVICE_RESET."""
    _, it = _usable(state, device)
    it.marked = False


@rule("B36", "B37", "C33", "E29", "F56")
def write_mark(state: State, user: str, device: str) -> None:
    """Write a register that a reset wipes."""
    _, it = _usable(state, device)
    it.marked = True


@rule("B36", "B37", "C21", "C33", "E29", "F56")
def read_mark(state: State, user: str, device: str) -> Facts:
    """Read that register."""
    _, it = _usable(state, device)
    return {"marked": it.marked}


@rule("A33", "A34", "A35", "A36", "A37", "E29")
def token_feature(state: State, user: str, device: str, way: str, token: str) -> None:
    """VFIO_DEVICE_FEATURE with VFIO_DEVICE_FEATURE_PCI_VF_TOKEN.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_feature_token().
    """
    _, it = _usable(state, device)
    deny_if(way in ("unknown flag", "get and set"), EINVAL)
    deny_if(it.token is None, ENOTTY)
    deny_if(way in ("get", "probe get", "neither", "short"), EINVAL)
    it.token = token if way == "set" else it.token


@rule("F100", "E29")
def attach_space(state: State, user: str, device: str, way: str) -> None:
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT, to the address space of its own iommufd."""
    own, _ = _usable(state, device)
    deny_if(not own.cdev, ENOTTY)
    deny_if(way in ("short", "flags"), EINVAL)
    deny_if(way == "unknown", ENOENT)


@rule("F100", "E29")
def detach_space(state: State, user: str, device: str, way: str) -> None:
    """VFIO_DEVICE_DETACH_IOMMUFD_PT."""
    own, _ = _usable(state, device)
    deny_if(not own.cdev, ENOTTY)
    deny_if(way, EINVAL)


@rule("D21")
def map_dma(state: State, user: str, container: str, page: int, way: str) -> None:
    """VFIO_IOMMU_MAP_DMA of a page at a place of its number."""
    own = _typed(state, container)
    deny_if(way, EINVAL)
    deny_if(page in own.maps, EEXIST)
    own.maps |= {page}


@rule("D21")
def unmap_dma(state: State, user: str, container: str, page: int) -> Facts:
    """VFIO_IOMMU_UNMAP_DMA of such a page."""
    own = _typed(state, container)
    found = page in own.maps
    own.maps -= {page}
    return {"pages": int(found)}


def _typed(state: State, name: str) -> ContainerModel:
    own = state.open(name, ContainerModel)
    deny_if(not own.type, EINVAL)
    deny_if(own.type == VFIO_NOIOMMU_IOMMU, ENOTTY)
    return own


def _affected(state: State, role: str) -> list[str]:
    """Return the functions that a hot reset would affect (C01 to C05, C09, C10, C46)."""
    covered = state.platform.reset_with(role)
    deny_if(covered is None, ENODEV)
    return [each for each in covered or () if each in state.functions]


def _in_set(state: State, first: str, other: str) -> bool:
    """Return whether vfio has another function, and resets it together with the first."""
    together = state.platform.device_set(first) == state.platform.device_set(other)
    return together and state.functions[other].driver == VFIO


@rule("C01", "C11", "C12", "C13", "C14", "C24", "C25", "C26", "C27", "C32", "C43", "E29")
def hot_reset_info(state: State, user: str, device: str, way: str) -> Facts:
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_pci_hot_reset_info(),
    vfio_pci_fill_devs().
    """
    own, it = _usable(state, device)
    deny_if(way == "short", EINVAL)
    affected = _affected(state, it.role)
    deny_if(way == "header", ENOSPC, {"count": len(affected)})
    if own.cdev:
        owners = {role: _devid(state, it, role) for role in affected}
        flags = DEV_ID | (0 if NOT_OWNED in owners.values() else OWNED)
        return {"flags": flags, "devices": owners}
    deny_if(any(state.functions[role].group is None for role in affected), EPERM)
    return {"flags": 0, "devices": dict.fromkeys(affected, "its group")}


def _devid(state: State, it: PciModel, role: str) -> str:
    """Return how a device is owned by the iommufd of another: bound to it, by its group, not."""
    other = state.functions[role]
    if not _in_set(state, it.role, role):
        return NOT_OWNED
    if other.iommufd == it.iommufd:
        return "its devid"
    shared = not other.noiommu and state.owner(other.group) == ("iommufd", it.iommufd)
    return "owned" if shared else NOT_OWNED


@rule("C06", "C07", "C08", "C15", "C16", "C17", "C18", "C19", "C20", "C21", "C28", "C39", "C42")
def hot_reset(state: State, user: str, device: str, files: Sequence[str], way: str) -> None:
    """VFIO_DEVICE_PCI_HOT_RESET, with groups or without.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_pci_hot_reset().
    """
    own, it = _usable(state, device)
    deny_if(way or bool(files) == own.cdev, EINVAL)
    affected = _affected(state, it.role)
    deny_if(len(files) > len(affected) and not own.cdev, EINVAL)
    groups = _groups(state, files)
    deny_if(any(not _in_set(state, it.role, role) for role in affected), EINVAL)
    peers = [role for role in state.functions if _in_set(state, it.role, role)]
    deny_if(own.cdev and any(_devid(state, it, role) == NOT_OWNED for role in peers), EINVAL)
    deny_if(not own.cdev and not {state.functions[role].group for role in peers} <= groups, EINVAL)
    for role in affected:
        state.functions[role].marked = False


def _groups(state: State, files: Sequence[str]) -> set[str]:
    """Return the groups whose open files a user presents."""
    found = [state.file(name) for name in files]
    for file in found:
        deny_if(file is None, EBADF)
        deny_if(not isinstance(file, GroupModel), EINVAL)
    return {file.group for file in found if isinstance(file, GroupModel) and not file.gone}
