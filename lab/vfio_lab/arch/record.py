"""The record of an architecture: everything that differs between architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from vfio_lab.errors import UsageError


@dataclass(frozen=True)
class Architecture:
    """An architecture of guests.

    Args:
        name: as printed by `uname -m`.
        debian: Debian's name.
        kernel: the kernel's name, a folder below its `arch/`.
        cross: prefix of the names of Debian's compiler and binutils for it.
        boot_image: the image that QEMU boots, as a path in a built kernel tree.
        qemu: QEMU's binary.
        qemu_package: the Debian package that contains the binary.
        machine: QEMU's machine type, with the properties that every guest sets.
        machine_for_vfs: properties that it has besides where there are PFs.
        machine_globals: further defaults of the machine's devices, for `-global`.
        split_irqchip: the machine option that makes KVM leave the I/O APIC to QEMU, if needed.
        reloads: whether QEMU writes the kernel into a clone's memory again; clones need none.
        serial: QEMU's device type of the serial console.
        cpu: the CPU model without KVM.
        console: the kernel's name of the serial console.
        early_console: kernel command line word for a console before that.
        boot_words: kernel command line words for every guest of the architecture.
        multiarch: folder of shared libraries below /usr/lib.
        loader: file name of the dynamic loader.
        syscalls: numbers of the system calls that users make, by name.
    """

    name: str
    debian: str
    kernel: str
    cross: str
    boot_image: PurePosixPath
    qemu: str
    qemu_package: str
    machine: tuple[str, ...]
    machine_for_vfs: tuple[str, ...]
    machine_globals: tuple[str, ...]
    split_irqchip: str
    reloads: bool
    serial: str
    cpu: str
    console: str
    early_console: str
    boot_words: tuple[str, ...]
    multiarch: str
    loader: str
    syscalls: Mapping[str, int] = field(repr=False, hash=False)

    def syscall(self, name: str) -> int:
        """Return the number of a system call.

        Raises:
            UsageError: the table has none of that name.
        """
        if name not in self.syscalls:
            raise UsageError(
                f"the lab has no number for the system call {name!r}",
                expected=f"one of {', '.join(sorted(self.syscalls))}",
                hint=f"add its number on {self.name} to the table in vfio_lab.arch",
            )
        return self.syscalls[name]
