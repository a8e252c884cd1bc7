"""arm64: QEMU's virt with GICv3 and ITS, a PL011 console, system calls of asm-generic/unistd.h."""

from __future__ import annotations

from pathlib import PurePosixPath
from types import MappingProxyType

from vfio_lab.arch.record import Architecture

# Source: include/uapi/asm-generic/unistd.h, scripts/syscall.tbl.
SYSCALLS = MappingProxyType(
    {
        "eventfd2": 19,
        "dup": 23,
        "fcntl": 25,
        "ioctl": 29,
        "ftruncate": 46,
        "faccessat": 48,
        "fchownat": 54,
        "openat": 56,
        "close": 57,
        "read": 63,
        "write": 64,
        "pread64": 67,
        "pwrite64": 68,
        "ppoll": 73,
        "capget": 90,
        "capset": 91,
        "reboot": 142,
        "sethostname": 161,
        "setrlimit": 164,
        "prctl": 167,
        "socket": 198,
        "bind": 200,
        "sendmsg": 211,
        "recvmsg": 212,
        "munmap": 215,
        "mremap": 216,
        "execve": 221,
        "mmap": 222,
        "mprotect": 226,
        "memfd_create": 279,
        "kexec_file_load": 294,
    }
)
AARCH64 = Architecture(
    name="aarch64",
    debian="arm64",
    kernel="arm64",
    cross="aarch64-linux-gnu-",
    boot_image=PurePosixPath("arch/arm64/boot/Image"),
    qemu="qemu-system-aarch64",
    qemu_package="qemu-system-arm",
    machine=("virt", "gic-version=3", "its=on"),
    # QEMU 10.0 takes VF BARs for 32 bits wide and maps them wrong above 4 GiB.
    # Source: QEMU, hw/pci/pcie_sriov.c, pcie_sriov_vf_register_bar(): the type is not known yet.
    machine_for_vfs=("highmem-mmio=off",),
    machine_globals=(),
    split_irqchip="",
    reloads=True,
    serial="pl011",
    # Signing with QARMA5 makes emulation three times slower.
    cpu="max,pauth=off",
    console="ttyAMA0",
    early_console="earlycon",
    boot_words=(
        # A root port without a device falls asleep, and notices no device that is added.
        "pcie_port_pm=off",
    ),
    multiarch="aarch64-linux-gnu",
    loader="ld-linux-aarch64.so.1",
    syscalls=SYSCALLS,
)
