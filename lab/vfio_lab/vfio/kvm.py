"""KVM's side of vfio: a virtual machine's device that is told which devices the machine has.

Source: virt/kvm/vfio.c; Documentation/virt/kvm/devices/vfio.rst.
"""

from __future__ import annotations

import ctypes

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import User
from vfio_lab.uapi import kvm
from vfio_lab.uapi.layout import offset_of
from vfio_lab.vfio.handle import Handle, descriptor

KVM_PATH = "/dev/kvm"
ADDRESS_OFFSET = offset_of(kvm.kvm_device_attr, "addr")


class KvmVfio:
    """A virtual machine without CPUs, and its VFIO device (KVM_DEV_TYPE_VFIO).

    Args:
        user: the user that makes them.
    """

    def __init__(self, user: User) -> None:
        """Open KVM, make the machine, and make its device."""
        self.user = user
        system = user.open_path(KVM_PATH)
        self.vm = user.ioctl(system, kvm.KVM_CREATE_VM, name="KVM_CREATE_VM").value
        user.close(system)
        self.fd = self.create()

    def __repr__(self) -> str:
        """Return `KvmVfio(fd 5 of user)`."""
        return f"{type(self).__name__}(fd {self.fd} of {self.user.name})"

    def create(self) -> int:
        """KVM_CREATE_DEVICE of the machine's VFIO device; return its descriptor.

        Raises:
            Refusal: EBUSY, the machine has one.
        """
        room = Buffer(bytes(kvm.kvm_create_device(type=kvm.KVM_DEV_TYPE_VFIO)), out=True)
        name, about = "KVM_CREATE_DEVICE", f"{self.vm}, VFIO"
        reply = self.user.ioctl(self.vm, kvm.KVM_CREATE_DEVICE, room, name=name, about=about)
        return kvm.kvm_create_device.from_buffer_copy(reply.out[0]).fd

    def add(self, file: Handle | int) -> None:
        """KVM_DEV_VFIO_FILE_ADD, with a group, a character device or any other descriptor."""
        self.set_attr(kvm.KVM_DEV_VFIO_FILE, kvm.KVM_DEV_VFIO_FILE_ADD, descriptor(file))

    def remove(self, file: Handle | int) -> None:
        """KVM_DEV_VFIO_FILE_DEL, with a group, a character device or any other descriptor."""
        self.set_attr(kvm.KVM_DEV_VFIO_FILE, kvm.KVM_DEV_VFIO_FILE_DEL, descriptor(file))

    def set_attr(self, group: int, attr: int, fd: int) -> None:
        """KVM_SET_DEVICE_ATTR of the VFIO device.

        Args:
            group: KVM_DEV_VFIO_FILE.
            attr: KVM_DEV_VFIO_FILE_ADD or _DEL.
            fd: the descriptor that the attribute is set to.
        """
        fixed = kvm.kvm_device_attr(group=group, attr=attr)
        value = Buffer(fd.to_bytes(ctypes.sizeof(ctypes.c_int32), "little", signed=True))
        argument = Buffer(bytes(fixed), pointers=((ADDRESS_OFFSET, value),))
        about = f"{self.fd}, group={group} attr={attr} [{fd}]"
        request, name = kvm.KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR"
        self.user.ioctl(self.fd, request, argument, name=name, about=about)

    def close(self) -> None:
        """Close the device and the machine."""
        self.user.close(self.fd)
        self.user.close(self.vm)
