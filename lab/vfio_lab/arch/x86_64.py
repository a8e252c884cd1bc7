"""x86-64: QEMU's q35, an 8250 console, system calls of syscall_64.tbl."""

from __future__ import annotations

from pathlib import PurePosixPath
from types import MappingProxyType

from vfio_lab.arch.record import Architecture

# Parts of q35 that no guest needs.
UNUSED = ("sata", "smbus", "smm", "usb", "vmport")
# Source: arch/x86/entry/syscalls/syscall_64.tbl.
SYSCALLS = MappingProxyType(
    {
        "read": 0,
        "write": 1,
        "close": 3,
        "poll": 7,
        "mmap": 9,
        "mprotect": 10,
        "munmap": 11,
        "ioctl": 16,
        "pread64": 17,
        "pwrite64": 18,
        "access": 21,
        "mremap": 25,
        "dup": 32,
        "socket": 41,
        "sendmsg": 46,
        "recvmsg": 47,
        "bind": 49,
        "execve": 59,
        "fcntl": 72,
        "ftruncate": 77,
        "chown": 92,
        "capget": 125,
        "capset": 126,
        "prctl": 157,
        "setrlimit": 160,
        "reboot": 169,
        "sethostname": 170,
        "openat": 257,
        "eventfd2": 290,
        "memfd_create": 319,
        "kexec_file_load": 320,
    }
)
X86_64 = Architecture(
    name="x86_64",
    debian="amd64",
    kernel="x86",
    cross="x86_64-linux-gnu-",
    boot_image=PurePosixPath("arch/x86/boot/bzImage"),
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    machine=("q35", *(f"{name}=off" for name in UNUSED)),
    machine_for_vfs=(),
    # With ACPI hotplug, root ports do not set link and presence bits, and no reset below works.
    machine_globals=("ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",),
    split_irqchip="kernel-irqchip=split",
    reloads=False,
    serial="isa-serial",
    cpu="max",
    console="ttyS0",
    early_console="earlyprintk=ttyS0",
    boot_words=(
        # On a busy host the timer check may see no tick, and the kernel panics: "timer doesn't
        # work through Interrupt-remapped IO-APIC".
        "no_timer_check",
        # On a busy host the clocks may disagree, and the kernel falls back to a slow clock source.
        "tsc=reliable",
    ),
    multiarch="x86_64-linux-gnu",
    loader="ld-linux-x86-64.so.2",
    syscalls=SYSCALLS,
)
