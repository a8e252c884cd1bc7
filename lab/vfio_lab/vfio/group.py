"""A group: the unit of ownership, and the way to its devices."""

from __future__ import annotations

import ctypes

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import PendingCall, User
from vfio_lab.errors import UsageError
from vfio_lab.uapi import vfio
from vfio_lab.uapi.names import Kind
from vfio_lab.vfio.container import Container
from vfio_lab.vfio.device import Device
from vfio_lab.vfio.handle import Handle, descriptor

GROUP_FOLDER = "/dev/vfio"
NOIOMMU_PREFIX = "noiommu-"


class Group(Handle):
    """An open group.

    Args:
        user: the user that opens it.
        node: the group's number, or the name of its node (`noiommu-0`).
    """

    kind = Kind.GROUP

    def __init__(self, user: User, node: int | str) -> None:
        """Open the group's node."""
        path = f"{GROUP_FOLDER}/{node}"
        super().__init__(user, user.open_path(path), path)
        self.noiommu = str(node).startswith(NOIOMMU_PREFIX)
        self.container: Container | None = None

    def get_status(
        self, *, argsz: int | None = None, pointer: int | None = None
    ) -> vfio.vfio_group_status:
        """VFIO_GROUP_GET_STATUS."""
        size = ctypes.sizeof(vfio.vfio_group_status) if argsz is None else argsz
        fixed = vfio.vfio_group_status(argsz=size)
        return self.exchange(vfio.VFIO_GROUP_GET_STATUS, fixed, pointer=pointer)[0]

    def set_container(self, container: Handle | int) -> None:
        """VFIO_GROUP_SET_CONTAINER, with a container or any other descriptor."""
        fd = descriptor(container)
        raw = Buffer(fd.to_bytes(4, "little", signed=True))
        self.ioctl(vfio.VFIO_GROUP_SET_CONTAINER, raw, about=f"[{fd}]")
        self.container = container if isinstance(container, Container) else None

    def unset_container(self) -> None:
        """VFIO_GROUP_UNSET_CONTAINER."""
        self.ioctl(vfio.VFIO_GROUP_UNSET_CONTAINER)
        self.container = None

    def get_device_fd(self, name: str | bytes, *, pointer: int | None = None) -> GroupDevice:
        """VFIO_GROUP_GET_DEVICE_FD, with the given string.

        Args:
            name: device name and options, e.g. `0000:01:10.0 vf_token=...`; a NUL is appended.
            pointer: the address to pass instead of the string's.

        Raises:
            Refusal: the kernel refuses the call.
        """
        raw = name.encode() if isinstance(name, str) else name
        shown = raw.decode("ascii", errors="backslashreplace")
        argument = Buffer(raw + b"\0") if pointer is None else pointer
        about = f'"{shown}"' if pointer is None else f"{pointer:#x}"
        fd = self.ioctl(vfio.VFIO_GROUP_GET_DEVICE_FD, argument, about=about).value
        return GroupDevice(self.user, fd, shown.partition(" ")[0], self)

    def start_get_device_fd(self, name: str) -> PendingCall:
        """Enter VFIO_GROUP_GET_DEVICE_FD without waiting for it; its value is the descriptor."""
        label, about = "VFIO_GROUP_GET_DEVICE_FD", f'{self.fd}, "{name}"'
        request = vfio.VFIO_GROUP_GET_DEVICE_FD
        return self.user.start(
            "ioctl", self.fd, request, Buffer.text(name), label=label, about=about
        )


class GroupDevice(Device):
    """A device opened through its group.

    Args:
        user: the user that holds it.
        fd: the descriptor returned by VFIO_GROUP_GET_DEVICE_FD.
        label: the device's BDF.
        group: the group that it was opened through.
    """

    def __init__(self, user: User, fd: int, label: str, group: Group) -> None:
        """Wrap the open descriptor."""
        super().__init__(user, fd, label)
        self.group = group

    @property
    def container(self) -> Container:
        """The container that the device's group is attached to.

        Raises:
            UsageError: the group is not attached, or is attached to a bare descriptor.
        """
        if self.group.container is None:
            raise UsageError(
                f"{self.label} has no container",
                expected="a container, which this call needs",
                device=self.label,
                hint="attach its group with Group.set_container(Container(user)) first",
            )
        return self.group.container
