"""What differs from one architecture to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Architecture:
    """An architecture of guests.

    Args:
        name: as `uname -m` says it.
        debian: Debian's name.
        kernel: the kernel's name, a folder below its `arch/`.
        boot_image: what QEMU boots, by its path in a built kernel tree.
        qemu: QEMU's binary.
        qemu_package: the Debian package that brings it.
        machine: QEMU's machine type, with what every guest sets on it.
        machine_globals: further defaults of the machine's devices, for `-global`.
        split_irqchip: the machine option with which KVM leaves the I/O APIC to QEMU, if needed.
        cpu: the CPU model without KVM.
        console: the serial console as the kernel names it.
        boot_words: what the kernel's command line says on every machine of it.
        multiarch: folder of shared libraries below /usr/lib.
        loader: file name of the dynamic loader.
        syscalls: system call numbers by name, those that users make.
    """

    name: str
    debian: str
    kernel: str
    boot_image: PurePosixPath
    qemu: str
    qemu_package: str
    machine: tuple[str, ...]
    machine_globals: tuple[str, ...]
    split_irqchip: str
    cpu: str
    console: str
    boot_words: tuple[str, ...]
    multiarch: str
    loader: str
    syscalls: Mapping[str, int] = field(repr=False, hash=False)
