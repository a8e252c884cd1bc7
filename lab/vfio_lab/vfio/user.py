"""A user that opens vfio devices."""

from __future__ import annotations

import uuid
from typing import Literal, overload

from vfio_lab.client.mediated import MediatedDevice
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.client.user import User
from vfio_lab.vfio.cdev import Cdev
from vfio_lab.vfio.device import Device
from vfio_lab.vfio.group import Group, GroupDevice
from vfio_lab.vfio.paths import group_node, open_cdev_path, open_group_path

Access = Literal["group", "cdev"]
Openable = PciFunction | MediatedDevice


class VfioUser(User):
    """A process in the guest that opens devices."""

    @overload
    def open(
        self, function: Openable, token: uuid.UUID | None = None, *, options: str | None = None
    ) -> GroupDevice: ...

    @overload
    def open(
        self, function: Openable, token: uuid.UUID | None = None, *, access: Literal["cdev"]
    ) -> Cdev: ...

    @overload
    def open(
        self, function: Openable, token: uuid.UUID | None = None, *, access: Access
    ) -> Device: ...

    def open(
        self,
        function: Openable,
        token: uuid.UUID | None = None,
        *,
        options: str | None = None,
        access: Access = "group",
    ) -> Device:
        """Open a device and everything that is needed to use it.

        Args:
            function: the device.
            token: the VF token to present.
            options: raw text after the device's BDF, on the group path.
            access: through its group and a container, or through its cdev and an iommufd.

        Raises:
            Refusal: the kernel refuses one of the steps.
        """
        if access == "cdev":
            return open_cdev_path(self, str(function), token=token)
        return open_group_path(self, str(function), token=token, options=options)

    def open_group(self, function: Openable) -> Group:
        """Open a device's group without attaching it to a container."""
        return Group(self, group_node(self, str(function)))
