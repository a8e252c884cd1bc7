"""From a node in /dev/vfio to an open device: groups, containers, iommufds, tokens, owners."""

from __future__ import annotations

from errno import (
    EACCES,
    EBADF,
    EBADFD,
    EBUSY,
    EINVAL,
    ENODEV,
    ENOENT,
    EPERM,
)

from vfio_lab.model.rules import (
    Denied,
    Facts,
    KnownBug,
    collect,
    container_users,
    deny_if,
    detach,
    rule,
)
from vfio_lab.model.state import (
    VFIO,
    ContainerModel,
    DeviceModel,
    File,
    GroupModel,
    IommufdModel,
    PciModel,
    State,
)
from vfio_lab.uapi.vfio import VFIO_NOIOMMU_IOMMU, VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU

VIABLE, ATTACHED = 1, 2
OPENED = "vfio-noiommu device opened by user"
TYPE1 = (VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU)
# How a device is named to VFIO_GROUP_GET_DEVICE_FD, after its address; a token replaces {0}.
NAMES = {
    "plain": "",
    "spaces": "   ",
    "token": " vf_token={0}",
    "upper": " vf_token={1}",
    "spaced": "   vf_token={0}  ",
    "twice": " vf_token={0} vf_token={0}",
    "glued": " vf_token={0}x",
    "short": " vf_token=1234",
    "tab": "\tvf_token={0}",
    "inner tab": " \tvf_token={0}",
    "unknown": " colour=red",
}
TOKENLESS = ("plain", "spaces")
PRESENTING = ("token", "upper", "spaced")


def _add(state: State, user: str, name: str, file: File) -> None:
    number = max(state.files, default=0) + 1
    state.files[number] = file
    state.descriptors[name] = (user, number)


@rule("D38")
def open_container(state: State, user: str, new: str) -> None:
    """Open /dev/vfio/vfio."""
    _add(state, user, new, ContainerModel())


@rule("E24")
def open_iommufd(state: State, user: str, new: str) -> None:
    """Open /dev/iommu and allocate an address space."""
    _add(state, user, new, IommufdModel())


@rule("D12", "E13", "E15", "E16", "E27")
def open_group(state: State, user: str, function: str, new: str) -> None:
    """Open the group of a function.

    Source: drivers/vfio/group.c, vfio_group_fops_open().
    """
    it = state.functions[function]
    deny_if(all(each.driver != VFIO for each in state.members(it.group)), ENOENT)
    deny_if(it.noiommu and not state.privileged[user], EPERM)
    deny_if(state.has_cdev_user(it.group) or any(state.groups(it.group)), EBUSY)
    _add(state, user, new, GroupModel(it.group or "", it.noiommu))


@rule("D10", "D11", "D16", "E28")
def open_cdev(state: State, user: str, function: str, new: str) -> None:
    """Open the character device of a function.

    Source: drivers/vfio/device_cdev.c, vfio_device_fops_cdev_open().
    """
    it = state.functions[function]
    has_node = state.platform.noiommu_cdev if it.noiommu else state.platform.cdev
    deny_if(it.driver != VFIO or not has_node, ENOENT)
    deny_if(it.noiommu and not state.privileged[user], EPERM)
    _add(state, user, new, DeviceModel(function, cdev=True, usable=False))


@rule("D13", "D23", "D24", "D26", "E02", "E03", "E05", "E07", "E17", "E24", "E33")
def set_container(state: State, user: str, group: str, file: str) -> None:
    """VFIO_GROUP_SET_CONTAINER.

    Source: drivers/vfio/group.c, vfio_group_ioctl_set_container(); drivers/vfio/container.c,
    vfio_container_attach_group().
    """
    own, target = _group(state, group), state.file(file)
    if target is None:
        raise Denied(EBADF)
    deny_if(own.container is not None, EINVAL)
    deny_if(own.gone, ENODEV)
    match target:
        case ContainerModel():
            others = state.attached(state.number(file))
            deny_if(own.noiommu and not state.privileged[user], EPERM)
            deny_if(any(each.noiommu != own.noiommu for each in others), EPERM)
            deny_if(state.owner(own.group) is not None, EPERM)
        case IommufdModel():
            deny_if(target.compat if own.noiommu else target.noiommu, EINVAL)
            target.noiommu, target.compat = own.noiommu, not own.noiommu
        case _:
            raise Denied(EBADFD if state.platform.has("iommufd-as-container") else EINVAL)
    own.container = state.number(file)


@rule("E12", "E18", "E19")
def unset_container(state: State, user: str, group: str) -> None:
    """VFIO_GROUP_UNSET_CONTAINER."""
    own = _group(state, group)
    if own.container is None:
        raise Denied(EINVAL)
    deny_if(not state.is_iommufd(own.container) and container_users(state, own), EBUSY)
    detach(state, own)
    collect(state)


@rule("D14", "D20", "E19")
def set_iommu(state: State, user: str, container: str, type: int) -> None:  # noqa: A002 - the ioctl's word
    """VFIO_SET_IOMMU.

    Source: drivers/vfio/container.c, vfio_ioctl_set_iommu().
    """
    own = state.file(container)
    assert isinstance(own, ContainerModel)
    groups = state.attached(state.number(container))
    deny_if(not groups or own.type, EINVAL)
    deny_if(not _offers(state, groups, type), ENODEV)
    deny_if(type == VFIO_NOIOMMU_IOMMU and not state.privileged[user], EPERM)
    own.type = type


@rule("D18", "D19")
def check_extension(state: State, user: str, container: str, type: int) -> Facts:  # noqa: A002 - the ioctl's word
    """VFIO_CHECK_EXTENSION."""
    return {"offered": int(_offers(state, state.attached(state.number(container)), type))}


def _offers(state: State, groups: list[GroupModel], wanted: int) -> bool:
    if wanted == VFIO_NOIOMMU_IOMMU:
        fits = groups[0].noiommu if groups else True
        return state.parameters["noiommu"] and fits
    return wanted in TYPE1 and not any(each.noiommu for each in groups)


@rule("D25", "E01", "E02", "E03", "E05", "E07", "E17", "E24")
def get_status(state: State, user: str, group: str, argsz: int | None = None) -> Facts:
    """VFIO_GROUP_GET_STATUS."""
    own = _group(state, group)
    deny_if(argsz is not None, EINVAL)
    deny_if(own.gone, ENODEV)
    if own.container is not None:
        return {"flags": VIABLE | ATTACHED}
    return {"flags": 0 if state.owner(own.group) else VIABLE}


@rule("A02", "A07", "A08", "A19", "A21", "A22", "A23", "A27", "D15", "D36", "E05", "E22", "E23")
def get_device(
    state: State, user: str, group: str, function: str, name: str, token: str, new: str
) -> Facts:
    """VFIO_GROUP_GET_DEVICE_FD.

    Source: drivers/vfio/group.c, vfio_group_ioctl_get_device_fd(); drivers/vfio/pci/
    vfio_pci_core.c, vfio_pci_core_match().
    """
    own, it = _group(state, group), state.functions[function]
    deny_if(own.gone or it.driver != VFIO or it.group != own.group or name == "tab", ENODEV)
    deny_if(name not in (*TOKENLESS, *PRESENTING), EINVAL)
    _check_token(state, it, token if name in PRESENTING else None)
    if own.container is None:
        raise Denied(EINVAL)
    first = not state.opens(function)
    if not first and it.noiommu and (it.iommufd is None) == state.is_iommufd(own.container):
        raise KnownBug  # the last close takes a reference from the container of the other open
    if state.is_iommufd(own.container):
        _use_iommufd(state, user, it, own.container, first=first)
    else:
        _use_container(state, user, own, first=first)
    through = own.container if state.is_iommufd(own.container) else None
    _add(state, user, new, DeviceModel(function, cdev=False, usable=True, iommufd=through))
    it.marked = it.marked and not first
    return {"log": (OPENED,) if it.noiommu else ()}  # D17


def _use_container(state: State, user: str, own: GroupModel, *, first: bool) -> None:
    if not first and state.platform.has("container-claim-at-first-open"):
        return
    container = state.files[own.container or 0]
    assert isinstance(container, ContainerModel)
    deny_if(not container.type, EINVAL)
    deny_if(own.noiommu and not state.privileged[user], EPERM)


def _use_iommufd(state: State, user: str, it: PciModel, number: int, *, first: bool) -> None:
    iommufd = state.files[number]
    assert isinstance(iommufd, IommufdModel)
    deny_if(first and it.noiommu and (iommufd.compat or not state.privileged[user]), EPERM)
    deny_if(first and state.owner(it.group) not in (None, ("iommufd", number)), EPERM)
    if first:
        it.iommufd = number


@rule("A38", "A39", "A40", "A41", "A42", "A43", "D16", "D39", "E25", "E26", "E27", "E28")
def bind_iommufd(
    state: State, user: str, device: str, iommufd: str, token: str | None, way: str
) -> None:
    """VFIO_DEVICE_BIND_IOMMUFD.

    Source: drivers/vfio/device_cdev.c, vfio_df_ioctl_bind_iommufd().
    """
    file, checks = _device(state, device), state.platform.has("86624ba3b522")
    it = state.functions[file.role]
    deny_if(way or (token and not checks) or not file.cdev, EINVAL)
    deny_if(any(state.groups(it.group)), EBUSY)
    deny_if(file.usable, EINVAL)
    if checks:
        _check_token(state, it, token)
    target = state.file(iommufd)
    if target is None:
        raise Denied(EBADF)
    if not isinstance(target, IommufdModel):
        raise Denied(EBADFD)
    number = state.number(iommufd)
    deny_if(state.opens(file.role), EINVAL)
    deny_if(state.owner(it.group) not in (None, ("iommufd", number)), EPERM)
    it.iommufd, file.iommufd, file.usable, it.marked = number, number, True, False


def _check_token(state: State, it: PciModel, token: str | None) -> None:
    """Judge a VF token: A02 to A06, A12 to A16, A31, A32, A44; a PF without VF users stores it.

    Source: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match_token_uuid().
    """
    if it.token_pf is not None:
        deny_if(token != state.functions[it.token_pf].token, EACCES)
    elif it.token is not None:
        deny_if(state.vf_users(it.role) and token != it.token, EACCES)
        it.token = token or it.token
    elif token is not None:
        raise Denied(EINVAL)


@rule("A18")
def dup(state: State, user: str, file: str, new: str) -> None:
    """Duplicate a descriptor."""
    state.descriptors[new] = (user, state.number(file))


@rule("A09", "A17", "A18", "A20", "D38", "E12", "E16")
def close(state: State, user: str, file: str) -> None:
    """Close a descriptor."""
    del state.descriptors[file]
    collect(state)


@rule("A09", "E12")
def kill(state: State, user: str) -> None:
    """End a user's process, which closes everything; another takes its place."""
    for name in state.descriptors_of(user, ContainerModel, IommufdModel, GroupModel, DeviceModel):
        del state.descriptors[name]
    collect(state)


def _group(state: State, name: str) -> GroupModel:
    file = state.file(name)
    assert isinstance(file, GroupModel)
    return file


def _device(state: State, name: str) -> DeviceModel:
    file = state.file(name)
    assert isinstance(file, DeviceModel)
    return file
