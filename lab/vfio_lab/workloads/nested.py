"""Nested guests: QEMU runs inside the guest with a function assigned by vfio-pci.

Only the outer kernel is under test. An inner guest boots the outer guest's kernel with an
initramfs, and its first process is images/inner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from vfio_lab.arch import X86_64
from vfio_lab.client.call import CommandResult
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.client.user import User
from vfio_lab.errors import GuestLost
from vfio_lab.qemu.accelerator import STUCK

QEMU = X86_64.qemu
KERNEL = "/run/vfio-lab/inner/bzImage"
INITRAMFS = "/run/vfio-lab/inner/initramfs"
MEMORY_MIB = 96
BOOT_TIMEOUT_S = 180.0
END = "[end]"  # the last line that an inner guest prints
FINDING = re.compile(r"^\[(\w+) ([^\]]+)\]\s*$", re.MULTILINE)
UNUSED = ("hpet", "sata", "smbus", "smm", "vmport")
# fmt: off
MACHINE = (
    "-nodefaults", "-no-user-config", "-no-reboot",
    "-display", "none",
    # Since 6.17 KVM emulates an I/O APIC only with CONFIG_KVM_IOAPIC; split works everywhere.
    "-machine", ",".join([X86_64.machine[0], X86_64.split_irqchip, "memory-backend=ram",
                          *(f"{name}=off" for name in UNUSED)]),
    "-cpu", "max",
    "-m", f"{MEMORY_MIB}M",
    # Without nested paging in hardware each fault is slow: a huge page saves 511 of 512.
    "-object", f"memory-backend-memfd,id=ram,size={MEMORY_MIB}M,hugetlb=on,hugetlbsize=2M",
)
# fmt: on
# Every character on the console is an exit to the outer guest, hence `quiet`. With ECAM the kernel
# would scan 255 more buses, at 32 exits each, hence `lastbus`.
WORDS = " ".join(
    (f"console={X86_64.console}", "quiet panic=-1", *X86_64.boot_words, "nokaslr pci=lastbus=0")
)


@dataclass(frozen=True)
class Inner:
    """The output of an inner guest that has ended.

    Args:
        console: everything that it printed.
    """

    console: str

    def found(self, what: str) -> set[str]:
        """Return its findings of a kind: `has` for attributes, `net` for interfaces."""
        return {value for kind, value in FINDING.findall(self.console) if kind == what}

    def selftest(self, name: str) -> int:
        """Return the result of a self-test of the function's driver, 0 for passed.

        Args:
            name: `Register test`, `Loopback test`, ...
        """
        return int(re.findall(rf"^{name} .*\t *(\d+)", self.console, re.MULTILINE)[0])


@dataclass(frozen=True)
class Hypervisor:
    """A user that runs inner guests.

    Args:
        user: the user that runs QEMU.
    """

    user: User

    def assign(
        self, function: PciFunction, token: UUID | None = None, *, iommufd: bool = False
    ) -> CommandResult:
        """Start QEMU, paused, with the function assigned; it keeps running if that succeeds.

        Args:
            function: the function to assign.
            token: the VF token that QEMU presents.
            iommufd: whether QEMU goes through iommufd and the function's character device.
        """
        words = device_option(function, token, iommufd=iommufd)
        return self.user.run(QEMU, *MACHINE, "-accel", "tcg", "-S", "-daemonize", *words)

    def boot(
        self, function: PciFunction, driver: str, token: UUID | None = None, *words: str
    ) -> Inner:
        """Run a guest with the function assigned until it ends, and return its output.

        Args:
            function: the function to assign, in the inner guest's slot 1.
            driver: the module that drives the function in the inner guest.
            token: the VF token that QEMU presents.
            words: further words for the inner kernel's command line.

        Raises:
            GuestLost: the guest ended too early; carries its output and QEMU's.
            DeadlineExceeded: the guest did not end in time.
        """
        line = " ".join([WORDS, f"driver={driver}", *words])
        # fmt: off
        command = [
            QEMU, *MACHINE, *device_option(function, token),
            "-accel", "kvm",
            "-serial", "stdio",
            "-kernel", KERNEL,
            "-initrd", INITRAMFS,
            "-append", line,
        ]
        # fmt: on
        fatal = [word.decode() for word in STUCK]
        done = self.user.run(*command, timeout_s=BOOT_TIMEOUT_S, last_words=fatal)
        inner = Inner(done.stdout + done.stderr)
        if END not in inner.console:
            raise GuestLost(
                "the nested guest ended before it was finished",
                guest=self.user.channel.name,
                device=str(function),
                expected=END,
                seen=next((word for word in fatal if word in inner.console), None),
                tail=inner.console,
                hint="see its last lines; an internal error of KVM is not caused by vfio",
            )
        return inner


def device_option(function: PciFunction, token: UUID | None, *, iommufd: bool = False) -> list[str]:
    """Return the QEMU options that assign a function to a guest.

    Args:
        function: the device to assign.
        token: the VF token to present, if any.
        iommufd: whether QEMU uses iommufd instead of a group and a container.
    """
    options = ["vfio-pci", f"host={function}", "bus=pcie.0", "addr=01.0"]
    backend = []
    if token is not None:
        options.append(f"vf-token={token}")
    if iommufd:
        options.append("iommufd=backend")
        backend = ["-object", "iommufd,id=backend"]
    return [*backend, "-device", ",".join(options)]
