"""What an open device does: information, address spaces, tokens, resets."""

from __future__ import annotations

from collections.abc import Sequence
from errno import EBADF, EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC, ENOTTY, EPERM

from vfio_lab.model.rules import Denied, Facts, deny_if, rule
from vfio_lab.model.state import VFIO, ContainerModel, DeviceModel, GroupModel, PciModel, State
from vfio_lab.uapi.vfio import VFIO_NOIOMMU_IOMMU

RESETTABLE_PCI = 3
REGIONS, IRQ_INDEXES = 9, 5
DEV_ID, OWNED = 1, 2
NOT_OWNED = "not owned"


def _usable(state: State, name: str) -> DeviceModel:
    """Return an open device; a character device must be bound first (E29)."""
    own = state.open(name, DeviceModel)
    deny_if(not own.usable, EINVAL)
    return own


@rule("C30", "E29")
def get_info(state: State, user: str, device: str, way: str) -> Facts:
    """VFIO_DEVICE_GET_INFO."""
    _usable(state, device)
    deny_if(way, EINVAL)
    return {"flags": RESETTABLE_PCI, "regions": REGIONS, "irqs": IRQ_INDEXES}


@rule("B37", "C33", "E29")
def reset(state: State, user: str, device: str) -> None:
    """VFIO_DEVICE_RESET."""
    _usable(state, device).function.marked = False


@rule("B36", "B37", "C33", "E29", "F56")
def write_mark(state: State, user: str, device: str) -> None:
    """Write a register that a reset wipes."""
    _usable(state, device).function.marked = True


@rule("B36", "B37", "C21", "C33", "E29", "F56")
def read_mark(state: State, user: str, device: str) -> Facts:
    """Read that register."""
    return {"marked": _usable(state, device).function.marked}


@rule("A33", "A34", "A35", "A36", "A37", "E29")
def token_feature(state: State, user: str, device: str, way: str, token: str) -> None:
    """VFIO_DEVICE_FEATURE with VFIO_DEVICE_FEATURE_PCI_VF_TOKEN.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_feature_token().
    """
    it = _usable(state, device).function
    deny_if(way in ("unknown flag", "get and set"), EINVAL)
    deny_if(it.token is None, ENOTTY)
    deny_if(way in ("get", "probe get", "neither", "short"), EINVAL)
    it.token = token if way == "set" else it.token


@rule("F100", "E29")
def attach_space(state: State, user: str, device: str, way: str) -> None:
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT, to the address space of its own iommufd."""
    deny_if(not _usable(state, device).cdev, ENOTTY)
    deny_if(way, ENOENT if way == "unknown" else EINVAL)


@rule("F100", "E29")
def detach_space(state: State, user: str, device: str, way: str) -> None:
    """VFIO_DEVICE_DETACH_IOMMUFD_PT."""
    deny_if(not _usable(state, device).cdev, ENOTTY)
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


def _affected(state: State, it: PciModel) -> list[PciModel]:
    """Return the functions that a hot reset would affect (C01 to C05, C09, C10, C46)."""
    covered = state.platform.reset_with(it.role)
    deny_if(not covered, ENODEV)
    return [state.functions[role] for role in covered if role in state.functions]


def _in_set(state: State, first: PciModel, other: PciModel) -> bool:
    """Return whether vfio has another function, and resets it together with the first."""
    together = state.platform.device_set(first.role) == state.platform.device_set(other.role)
    return together and other.driver == VFIO


@rule("C01", "C11", "C12", "C13", "C14", "C24", "C25", "C26", "C27", "C32", "C43", "E29")
def hot_reset_info(state: State, user: str, device: str, way: str) -> Facts:
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_pci_hot_reset_info(),
    vfio_pci_fill_devs().
    """
    own = _usable(state, device)
    deny_if(way == "short", EINVAL)
    affected = _affected(state, own.function)
    if way == "header":
        raise Denied(ENOSPC, {"count": len(affected)})
    if own.cdev:
        owners = {each.role: _devid(state, own.function, each) for each in affected}
        flags = DEV_ID | (0 if NOT_OWNED in owners.values() else OWNED)
        return {"flags": flags, "devices": owners}
    deny_if(any(each.group is None for each in affected), EPERM)
    return {"flags": 0, "devices": {each.role: "its group" for each in affected}}


def _devid(state: State, it: PciModel, other: PciModel) -> str:
    """Return how a device is owned by the iommufd of another: bound to it, by its group, not."""
    if not _in_set(state, it, other):
        return NOT_OWNED
    if other.iommufd is it.iommufd:
        return "its devid"
    shared = not other.noiommu and state.owner(other.group) is it.iommufd
    return "owned" if shared else NOT_OWNED


@rule("C06", "C07", "C08", "C15", "C16", "C17", "C18", "C19", "C20", "C21", "C28", "C39", "C42")
def hot_reset(state: State, user: str, device: str, files: Sequence[str], way: str) -> None:
    """VFIO_DEVICE_PCI_HOT_RESET, with groups or without.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_pci_hot_reset().
    """
    own = _usable(state, device)
    deny_if(way or bool(files) == own.cdev, EINVAL)
    affected = _affected(state, own.function)
    deny_if(len(files) > len(affected), EINVAL)
    shown = [state.file(name) for name in files]
    for file in shown:
        deny_if(file is None, EBADF)
        deny_if(not isinstance(file, GroupModel), EINVAL)
    deny_if(not all(_in_set(state, own.function, each) for each in affected), EINVAL)
    peers = [each for each in state.functions.values() if _in_set(state, own.function, each)]
    if own.cdev:
        deny_if(NOT_OWNED in [_devid(state, own.function, each) for each in peers], EINVAL)
    else:
        deny_if(not all(state.group(each.group) in shown for each in peers), EINVAL)
    for each in affected:
        each.marked = False
