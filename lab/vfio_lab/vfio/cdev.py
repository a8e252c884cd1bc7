"""A device opened by its character device, which is usable once it is bound to an iommufd."""

from __future__ import annotations

import ctypes
import uuid

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import User
from vfio_lab.errors import UsageError
from vfio_lab.uapi import vfio
from vfio_lab.uapi.layout import offset_of
from vfio_lab.vfio.device import Device
from vfio_lab.vfio.handle import Handle, descriptor
from vfio_lab.vfio.iommufd import Iommufd

CDEV_FOLDER = "/dev/vfio/devices"
TOKEN_POINTER_OFFSET = offset_of(vfio.vfio_device_bind_iommufd, "token_uuid_ptr")
WHOLE_BIND_BYTES = ctypes.sizeof(vfio.vfio_device_bind_iommufd)


class Cdev(Device):
    """An open character device.

    Args:
        user: the user that opens it.
        node: the name of its node (`vfio0`, `noiommu-vfio0`), or its path.
        label: the device's BDF, for messages.
    """

    def __init__(self, user: User, node: str, label: str = "") -> None:
        """Open the node; until the device is bound, only BIND works."""
        path = node if node.startswith("/") else f"{CDEV_FOLDER}/{node}"
        super().__init__(user, user.open_path(path), label or path)
        self.devid: int | None = None
        self.context: Iommufd | None = None

    @property
    def iommufd(self) -> Iommufd:
        """The iommufd that the device is bound to.

        Raises:
            UsageError: the device is not bound, or is bound to a bare descriptor.
        """
        if self.context is None:
            raise UsageError(
                f"{self.label} is bound to no iommufd",
                expected="a binding, which this call needs",
                device=self.label,
                hint="bind it with Cdev.bind_iommufd(Iommufd(user)) first",
            )
        return self.context

    def bind_iommufd(  # noqa: PLR0913 - the fields of struct vfio_device_bind_iommufd
        self,
        iommufd: Handle | int,
        token: uuid.UUID | bytes | None = None,
        *,
        argsz: int | None = None,
        flags: int | None = None,
        token_pointer: int | None = None,
        tail: bytes = b"",
    ) -> int:
        """VFIO_DEVICE_BIND_IOMMUFD; return the devid.

        Without a token the struct has the 16 bytes that every kernel with this ioctl accepts.

        Args:
            iommufd: the context, or any descriptor.
            token: the token, as a UUID or 16 raw bytes.
            argsz: the size passed to the kernel instead of the struct's, in bytes.
            flags: the flags; by default VFIO_DEVICE_BIND_FLAG_TOKEN with a token, else 0.
            token_pointer: the address to pass instead of the token's.
            tail: bytes after the struct, which the kernel must refuse if it does not know them.

        Raises:
            Refusal: the kernel refuses the call.
        """
        raw = token.bytes if isinstance(token, uuid.UUID) else token
        carries = raw is not None or token_pointer is not None
        size = WHOLE_BIND_BYTES if carries or tail else TOKEN_POINTER_OFFSET
        fixed = vfio.vfio_device_bind_iommufd(
            argsz=size + len(tail) if argsz is None else argsz,
            flags=(vfio.VFIO_DEVICE_BIND_FLAG_TOKEN if carries else 0) if flags is None else flags,
            iommufd=descriptor(iommufd),
            token_uuid_ptr=token_pointer or 0,
        )
        pointers = ((TOKEN_POINTER_OFFSET, Buffer(raw)),) if raw is not None else ()
        seen, _ = self.exchange(vfio.VFIO_DEVICE_BIND_IOMMUFD, fixed, tail, pointers=pointers)
        self.devid = seen.out_devid
        self.context = iommufd if isinstance(iommufd, Iommufd) else None
        return self.devid

    def attach_iommufd_pt(
        self,
        pt_id: int,
        *,
        flags: int = 0,
        pasid: int = 0,
        argsz: int | None = None,
        pointer: int | None = None,
    ) -> int:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT; return the ID of the page table in use.

        Args:
            pt_id: the ID of an address space or a page table.
            flags: VFIO_DEVICE_ATTACH_PASID to attach one PASID, else 0.
            pasid: the PASID; passed to the kernel only with flags.
            argsz: the size passed to the kernel instead of the struct's, in bytes.
            pointer: the address to pass instead of the struct's.
        """
        struct = vfio.vfio_device_attach_iommufd_pt
        fixed = struct(
            argsz=_before_pasid(struct, flags) if argsz is None else argsz,
            flags=flags,
            pt_id=pt_id,
            pasid=pasid,
        )
        number = vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT
        return self.exchange(number, fixed, pointer=pointer)[0].pt_id

    def detach_iommufd_pt(
        self,
        *,
        flags: int = 0,
        pasid: int = 0,
        argsz: int | None = None,
        pointer: int | None = None,
    ) -> None:
        """VFIO_DEVICE_DETACH_IOMMUFD_PT.

        Args:
            flags: VFIO_DEVICE_DETACH_PASID to detach one PASID, else 0.
            pasid: the PASID; passed to the kernel only with flags.
            argsz: the size passed to the kernel instead of the struct's, in bytes.
            pointer: the address to pass instead of the struct's.
        """
        struct = vfio.vfio_device_detach_iommufd_pt
        fixed = struct(
            argsz=_before_pasid(struct, flags) if argsz is None else argsz,
            flags=flags,
            pasid=pasid,
        )
        self.exchange(vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, fixed, pointer=pointer)


def _before_pasid(struct: type[ctypes.Structure], flags: int) -> int:
    """Return the struct's size: without the PASID field, unless the flags announce a PASID."""
    return ctypes.sizeof(struct) if flags else offset_of(struct, "pasid")
