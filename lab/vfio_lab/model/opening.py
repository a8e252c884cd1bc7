"""From a node in /dev/vfio to an open device: groups, containers, iommufds, tokens, owners."""

from __future__ import annotations

from errno import EACCES, EBADF, EBADFD, EBUSY, EINVAL, ENODEV, ENOENT, EPERM

from vfio_lab.model.rules import Denied, Facts, KnownBug, deny_if, rule
from vfio_lab.model.state import (
    VFIO,
    ContainerModel,
    DeviceModel,
    GroupModel,
    IommufdModel,
    PciModel,
    State,
)
from vfio_lab.uapi.vfio import VFIO_NOIOMMU_IOMMU, VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU

VIABLE, ATTACHED = 1, 2
OPENED = "vfio-noiommu device opened by user"
TYPE1 = (VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU)
# Ways to name a device, see NAMES in exploration.performer.
TOKENLESS = ("plain", "spaces")
PRESENTING = ("token", "upper", "spaced")


@rule("D38")
def open_container(state: State, user: str, new: str) -> None:
    """Open /dev/vfio/vfio."""
    state.descriptors[new] = (user, ContainerModel())


@rule("E24")
def open_iommufd(state: State, user: str, new: str) -> None:
    """Open /dev/iommu and allocate an address space."""
    state.descriptors[new] = (user, IommufdModel())


@rule("D12", "E13", "E15", "E16", "E27")
def open_group(state: State, user: str, function: str, new: str) -> None:
    """Open the group of a function.

    Source: drivers/vfio/group.c, vfio_group_fops_open().
    """
    it = state.functions[function]
    deny_if(all(each.driver != VFIO for each in state.members(it.group)), ENOENT)
    deny_if(it.noiommu and not state.privileged[user], EPERM)
    bound = [file for file in state.files(DeviceModel) if file.cdev and file.usable]
    deny_if(any(file.function.group == it.group for file in bound), EBUSY)
    deny_if(state.group(it.group), EBUSY)
    state.descriptors[new] = (user, GroupModel(it.group or "", it.noiommu))


@rule("D10", "D11", "D16", "E28")
def open_cdev(state: State, user: str, function: str, new: str) -> None:
    """Open the character device of a function.

    Source: drivers/vfio/device_cdev.c, vfio_device_fops_cdev_open().
    """
    it = state.functions[function]
    has_node = state.platform.noiommu_cdev if it.noiommu else state.platform.cdev
    deny_if(it.driver != VFIO or not has_node, ENOENT)
    deny_if(it.noiommu and not state.privileged[user], EPERM)
    state.descriptors[new] = (user, DeviceModel(it, cdev=True, usable=False))


@rule("D13", "D23", "D24", "D26", "E02", "E03", "E05", "E07", "E17", "E24", "E33")
def set_container(state: State, user: str, group: str, file: str) -> None:
    """VFIO_GROUP_SET_CONTAINER.

    Source: drivers/vfio/group.c, vfio_group_ioctl_set_container(); drivers/vfio/container.c,
    vfio_container_attach_group().
    """
    own, target = state.open(group, GroupModel), state.file(file)
    deny_if(target is None, EBADF)
    deny_if(own.container is not None, EINVAL)
    deny_if(own.gone, ENODEV)
    match target:
        case ContainerModel():
            deny_if(own.noiommu and not state.privileged[user], EPERM)
            deny_if(any(each.noiommu != own.noiommu for each in state.attached(target)), EPERM)
            deny_if(state.owner(own.name) is not None, EPERM)
        case IommufdModel():
            deny_if(target.compat if own.noiommu else target.noiommu, EINVAL)
            target.noiommu, target.compat = own.noiommu, not own.noiommu
        case _:
            raise Denied(EBADFD if state.platform.has("iommufd-as-container") else EINVAL)
    own.container = target


@rule("E12", "E18", "E19")
def unset_container(state: State, user: str, group: str) -> None:
    """VFIO_GROUP_UNSET_CONTAINER."""
    own = state.open(group, GroupModel)
    deny_if(own.container is None, EINVAL)
    deny_if(any(each.group is own for each in state.files(DeviceModel)), EBUSY)
    own.container = None
    state.release()


@rule("D14", "D20", "E19")
def set_iommu(state: State, user: str, container: str, type: int) -> None:  # noqa: A002 - the ioctl's word
    """VFIO_SET_IOMMU.

    Source: drivers/vfio/container.c, vfio_ioctl_set_iommu().
    """
    own = state.open(container, ContainerModel)
    deny_if(not state.attached(own) or own.type, EINVAL)
    deny_if(not _offers(state, own, type), ENODEV)
    deny_if(type == VFIO_NOIOMMU_IOMMU and not state.privileged[user], EPERM)
    own.type = type


@rule("D18", "D19")
def check_extension(state: State, user: str, container: str, type: int) -> Facts:  # noqa: A002 - the ioctl's word
    """VFIO_CHECK_EXTENSION."""
    return {"offered": int(_offers(state, state.open(container, ContainerModel), type))}


def _offers(state: State, container: ContainerModel, wanted: int) -> bool:
    groups = state.attached(container)
    if wanted == VFIO_NOIOMMU_IOMMU:
        return state.noiommu and (not groups or groups[0].noiommu)
    return wanted in TYPE1 and not any(each.noiommu for each in groups)


@rule("D25", "E01", "E02", "E03", "E05", "E07", "E17", "E24")
def get_status(state: State, user: str, group: str, argsz: int | None = None) -> Facts:
    """VFIO_GROUP_GET_STATUS."""
    own = state.open(group, GroupModel)
    deny_if(argsz is not None, EINVAL)
    deny_if(own.gone, ENODEV)
    if own.container is not None:
        return {"flags": VIABLE | ATTACHED}
    return {"flags": 0 if state.owner(own.name) else VIABLE}


@rule("A02", "A07", "A08", "A19", "A21", "A22", "A23", "A27", "D15", "D36", "E05", "E22", "E23")
def get_device(
    state: State, user: str, group: str, function: str, name: str, token: str, new: str
) -> Facts:
    """VFIO_GROUP_GET_DEVICE_FD.

    Source: drivers/vfio/group.c, vfio_group_ioctl_get_device_fd(); drivers/vfio/pci/
    vfio_pci_core.c, vfio_pci_core_match().
    """
    own, it = state.open(group, GroupModel), state.functions[function]
    deny_if(own.gone or it.driver != VFIO or it.group != own.name or name == "tab", ENODEV)
    deny_if(name not in (*TOKENLESS, *PRESENTING), EINVAL)
    _check_token(state, it, token if name in PRESENTING else None)
    deny_if(own.container is None, EINVAL)
    first, typed = not state.is_open(it), isinstance(own.container, ContainerModel)
    if not first and it.noiommu and (it.iommufd is None) != typed:
        raise KnownBug  # the last close takes a reference from the container of the other open
    if first or (typed and not state.platform.has("container-claim-at-first-open")):
        deny_if(isinstance(own.container, ContainerModel) and not own.container.type, EINVAL)
        deny_if(it.noiommu and not state.privileged[user], EPERM)
    if first and isinstance(own.container, IommufdModel):
        _own(state, it, own.container)
    state.descriptors[new] = (user, DeviceModel(it, own if typed else None))
    return {"log": (OPENED,) if it.noiommu else ()}  # D17


def _own(state: State, it: PciModel, iommufd: IommufdModel) -> None:
    """Bind a device to an iommufd, which then owns the DMA of its group."""
    deny_if(state.owner(it.group) not in (None, iommufd), EPERM)
    it.iommufd = iommufd


@rule("A38", "A39", "A40", "A41", "A42", "A43", "D16", "D39", "E25", "E26", "E27", "E28")
def bind_iommufd(
    state: State, user: str, device: str, iommufd: str, token: str | None, way: str
) -> None:
    """VFIO_DEVICE_BIND_IOMMUFD.

    Source: drivers/vfio/device_cdev.c, vfio_df_ioctl_bind_iommufd().
    """
    own, checks = state.open(device, DeviceModel), state.platform.has("86624ba3b522")
    it, target = own.function, state.file(iommufd)
    deny_if(way or (token and not checks) or not own.cdev, EINVAL)
    deny_if(state.group(it.group), EBUSY)
    deny_if(own.usable, EINVAL)
    if checks:
        _check_token(state, it, token)
    deny_if(target is None, EBADF)
    deny_if(not isinstance(target, IommufdModel), EBADFD)
    deny_if(state.is_open(it), EINVAL)
    _own(state, it, state.open(iommufd, IommufdModel))
    own.usable = True


def _check_token(state: State, it: PciModel, token: str | None) -> None:
    """Judge a VF token: A02 to A06, A12 to A16, A31, A32, A44; a PF without VF users stores it.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match_token_uuid().
    """
    if it.token_pf is not None:
        deny_if(token != it.token_pf.token, EACCES)
    elif it.token is not None:
        users = any(vf.token_pf is it and state.is_open(vf) for vf in state.functions.values())
        deny_if(users and token != it.token, EACCES)
        it.token = token or it.token
    else:
        deny_if(token is not None, EINVAL)


@rule("A18")
def dup(state: State, user: str, file: str, new: str) -> None:
    """Duplicate a descriptor."""
    state.descriptors[new] = (user, state.descriptors[file][1])


@rule("A09", "A17", "A18", "A20", "D38", "E12", "E16")
def close(state: State, user: str, file: str) -> None:
    """Close a descriptor."""
    del state.descriptors[file]
    state.release()


@rule("A09", "E12")
def kill(state: State, user: str) -> None:
    """End a user's process, which closes everything; another takes its place."""
    state.descriptors = {name: it for name, it in state.descriptors.items() if it[0] != user}
    state.release()
