"""The two complete paths to a device: group and container, or character device and iommufd."""

from __future__ import annotations

import contextlib
import uuid

from vfio_lab.client.mediated import MEDIATED
from vfio_lab.client.user import User
from vfio_lab.errors import UsageError
from vfio_lab.hw.pci import DEVICES, Bdf
from vfio_lab.uapi.vfio import VFIO_NOIOMMU_IOMMU, VFIO_TYPE1v2_IOMMU
from vfio_lab.vfio.cdev import Cdev
from vfio_lab.vfio.container import Container
from vfio_lab.vfio.group import (
    GROUP_FOLDER,
    NOIOMMU_PREFIX,
    Group,
    GroupDevice,
)
from vfio_lab.vfio.iommufd import Iommufd


def device_folder(name: Bdf | str) -> str:
    """Return a device's folder in sysfs, by its BDF or the UUID of a mediated device."""
    return f"{DEVICES if ':' in str(name) else MEDIATED}/{name}"


def group_node(user: User, bdf: Bdf | str) -> str:
    """Return the name of a device's group node: its number, or `noiommu-N`."""
    link = user.readlink(f"{device_folder(bdf)}/iommu_group")
    number = link.rpartition("/")[2]
    noiommu = f"{NOIOMMU_PREFIX}{number}"
    return noiommu if user.exists(f"{GROUP_FOLDER}/{noiommu}") else number


def cdev_node(user: User, bdf: Bdf | str) -> str:
    """Return the name of a device's character device: `vfioN`, or `noiommu-vfioN`."""
    names = user.listdir(f"{device_folder(bdf)}/vfio-dev")
    if len(names) != 1:
        raise UsageError(
            f"{bdf} has no character device of vfio",
            device=str(bdf),
            expected="one entry in its sysfs folder vfio-dev",
            seen=", ".join(names) or "none",
            hint="bind it to vfio-pci, on a kernel with VFIO_DEVICE_CDEV",
        )
    return names[0]


def with_options(bdf: Bdf | str, token: uuid.UUID | None = None, options: str | None = None) -> str:
    """Return the string for VFIO_GROUP_GET_DEVICE_FD.

    Args:
        bdf: the device's BDF.
        token: appended as `vf_token=`.
        options: raw text, appended after a space.

    Raises:
        UsageError: `token` is not a UUID.
    """
    words = [str(bdf)]
    if checked_token(token) is not None:
        words.append(f"vf_token={token}")
    if options is not None:
        words.append(options)
    return " ".join(words)


def checked_token(token: uuid.UUID | None) -> uuid.UUID | None:
    """Return the token if it is a UUID or None; strings are passed as raw options instead.

    Raises:
        UsageError: `token` is not a UUID.
    """
    if token is None or isinstance(token, uuid.UUID):
        return token
    raise UsageError(
        "a VF token must be a uuid.UUID",
        expected="uuid.UUID(...) or None",
        seen=repr(token),
        hint='to present a malformed token on purpose, pass options="vf_token=..."',
    )


def open_group_path(
    user: User,
    bdf: Bdf | str,
    group: int | str | None = None,
    token: uuid.UUID | None = None,
    options: str | None = None,
) -> GroupDevice:
    """Open a device through its group: group, container, IOMMU, device.

    Closing the device closes the group and the container. If a step is refused, everything opened
    before it is closed.

    Args:
        user: the user that opens it.
        bdf: the device's BDF.
        group: the group's number or node; by default the user looks it up in sysfs.
        token: the VF token to present.
        options: raw text to present after the BDF.

    Raises:
        Refusal: the kernel refuses one of the steps.
        UsageError: `token` is not a UUID.
    """
    name = with_options(bdf, token, options)
    with contextlib.ExitStack() as opened:
        own = opened.enter_context(Group(user, group_node(user, bdf) if group is None else group))
        container = opened.enter_context(Container(user))
        own.set_container(container)
        container.set_iommu(VFIO_NOIOMMU_IOMMU if own.noiommu else VFIO_TYPE1v2_IOMMU)
        device = own.get_device_fd(name)
        device.owning(own, container)
        opened.pop_all()
    return device


def open_affected_groups(device: GroupDevice) -> list[Group]:
    """Open every group that a device's hot reset INFO lists; return them with its own group.

    Raises:
        Refusal: INFO fails, or a group is in use by another user.
    """
    named = {group_node(device.user, bdf) for bdf in sorted(device.hot_reset_info().bdfs)}
    others = sorted(named - {group_node(device.user, device.label)})
    return [device.group, *(Group(device.user, node) for node in others)]


def open_cdev_path(
    user: User, bdf: Bdf | str, node: str | None = None, token: uuid.UUID | None = None
) -> Cdev:
    """Open a device through iommufd: character device, iommufd, bind.

    Closing the device closes the iommufd. If a step is refused, everything opened before it is
    closed.

    Args:
        user: the user that opens it.
        bdf: the device's BDF.
        node: the character device; by default the user looks it up in sysfs.
        token: the VF token to present.

    Raises:
        Refusal: the kernel refuses one of the steps.
        UsageError: `token` is not a UUID, or the device has no character device.
    """
    present = checked_token(token)
    with contextlib.ExitStack() as opened:
        iommufd = opened.enter_context(Iommufd(user))
        device = Cdev(user, cdev_node(user, bdf) if node is None else node, str(bdf))
        opened.enter_context(device)
        device.bind_iommufd(iommufd, present)
        device.owning(iommufd)
        opened.pop_all()
    return device
