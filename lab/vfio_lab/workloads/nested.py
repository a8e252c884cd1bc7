"""Guests inside the guest: QEMU, as users of vfio-pci start it, with a function assigned.

Only the outer kernel is under test. An inner guest boots the same kernel as the outer one, from
memory, and its first process is images/inner.
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
END = "[end]"  # what an inner guest says when it has said all
FINDING = re.compile(r"^\[(\w+) ([^\]]+)\]\s*$", re.MULTILINE)
UNUSED = ("hpet", "sata", "smbus", "smm", "vmport")
# fmt: off
MACHINE = (
    "-nodefaults", "-no-user-config", "-no-reboot",
    "-display", "none",
    # Kernels since 6.17 emulate an I/O APIC only if built to, and split works on all.
    "-machine", ",".join([X86_64.machine[0], X86_64.split_irqchip, "memory-backend=ram",
                          *(f"{name}=off" for name in UNUSED)]),
    "-cpu", "max",
    "-m", f"{MEMORY_MIB}M",
    # Without hardware to nest pages each fault is dear: a huge page takes 512 at once.
    "-object", f"memory-backend-memfd,id=ram,size={MEMORY_MIB}M,hugetlb=on,hugetlbsize=2M",
)
# fmt: on
# Every character on a console is an exit to the outer guest: the kernel says what matters only.
# Behind a host bridge with ECAM it would look for 255 more, 32 exits each.
WORDS = " ".join(
    (f"console={X86_64.console}", "quiet panic=-1", *X86_64.boot_words, "nokaslr pci=lastbus=0")
)


@dataclass(frozen=True)
class Inner:
    """What an inner guest found, once it has ended.

    Args:
        console: all that it printed.
    """

    console: str

    def found(self, what: str) -> set[str]:
        """Return what it found of a kind: `has` an attribute, `net` for an interface."""
        return {value for kind, value in FINDING.findall(self.console) if kind == what}

    def selftest(self, name: str) -> int:
        """Return what its driver says of one of its own tests, 0 for passed.

        Args:
            name: `Register test`, `Loopback test`, ...
        """
        return int(re.findall(rf"^{name} .*\t *(\d+)", self.console, re.MULTILINE)[0])


@dataclass(frozen=True)
class Hypervisor:
    """A user who runs inner guests.

    Args:
        user: whose QEMUs they are.
    """

    user: User

    def assign(
        self, function: PciFunction, token: UUID | None = None, *, iommufd: bool = False
    ) -> CommandResult:
        """Start a guest that has the function and never runs; it stays when QEMU is content.

        Args:
            function: what it is given.
            token: the VF token that QEMU presents.
            iommufd: whether QEMU goes through iommufd and the function's character device.
        """
        words = device_option(function, token, iommufd=iommufd)
        return self.user.run(QEMU, *MACHINE, "-accel", "tcg", "-S", "-daemonize", *words)

    def boot(
        self, function: PciFunction, driver: str, token: UUID | None = None, *words: str
    ) -> Inner:
        """Run a guest that has the function until it ends, and return what it found.

        Args:
            function: what it is given, in its slot 1.
            driver: the module that shall drive it.
            token: the VF token that QEMU presents.
            words: further words for the inner kernel's command line.

        Raises:
            GuestLost: it ended before its time; carries what it and QEMU said.
            DeadlineExceeded: it did not end.
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
                "the guest inside the guest came to a bad end",
                guest=self.user.channel.name,
                device=str(function),
                expected=END,
                seen=next((word for word in fatal if word in inner.console), None),
                tail=inner.console,
                hint="its last words say why; an internal error of KVM is no doing of vfio's",
            )
        return inner


def device_option(function: PciFunction, token: UUID | None, *, iommufd: bool = False) -> list[str]:
    """Return the words of a command line that assign a function to a guest.

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
