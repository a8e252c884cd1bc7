"""Start a guest's kernel anew from within (kexec); the hardware is not reset."""

from __future__ import annotations

from pathlib import Path

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import User
from vfio_lab.machine.base import start_user
from vfio_lab.machine.guest import BOOT_TIMEOUT_S, Guest
from vfio_lab.util.deadline import Deadline

# Source: include/uapi/linux/kexec.h, include/uapi/linux/reboot.h.
KEXEC_FILE_NO_INITRAMFS = 4
LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2 = 0xFEE1DEAD, 0x28121969
LINUX_REBOOT_CMD_KEXEC = 0x45584543
PIECE_BYTES = 1 << 17


def load_same_kernel(guest: Guest) -> None:
    """Load the kernel that a guest runs, with its command line, to be started by `kexec`.

    The files cross the agent's port as no user's calls: they would fill the transcript.

    Raises:
        Refusal: the kernel refuses the image.
    """
    loader, initramfs = start_user(guest.channel, "loader"), guest.machine.files.initramfs
    kernel = _copy_of(guest.machine.kernel.bzimage, loader)
    initrd, flags = (_copy_of(initramfs, loader), 0) if initramfs else (-1, KEXEC_FILE_NO_INITRAMFS)
    line = Buffer.text(loader.read_file("/proc/cmdline"))
    loader.syscall("kexec_file_load", kernel, initrd, len(line.data), line, flags)


def kexec(guest: Guest) -> None:
    """Start the loaded kernel; return when its agent answers. All users are gone then.

    Raises:
        LabError: the new kernel's agent did not answer.
    """
    guest.channel.ready = False
    magic = (LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC)
    guest.root.start("reboot", *magic, 0)
    deadline = Deadline.after(BOOT_TIMEOUT_S * guest.machine.kernel.slowness)
    guest.channel.await_ready(deadline)
    guest.forget_users()
    guest.renew(deadline)


def _copy_of(path: Path, user: User) -> int:
    """Return a descriptor of a copy of a file in the guest's memory."""
    data, fd = path.read_bytes(), user.syscall("memfd_create", Buffer.text(path.name), 0).value
    for start in range(0, len(data), PIECE_BYTES):
        user.pwrite(fd, data[start : start + PIECE_BYTES], start)
    return fd
