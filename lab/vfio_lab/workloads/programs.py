"""DPDK and libvirt, run as their users run them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from uuid import UUID

from vfio_lab.arch import X86_64
from vfio_lab.client.call import Buffer, CommandResult
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.client.user import User
from vfio_lab.uapi.syscalls import AT_FDCWD

TESTPMD = (
    *("dpdk-testpmd", "--lcores", "(0-1)@0"),  # testpmd needs two threads, and guests have one CPU
    *("--no-telemetry", "--in-memory"),
)
# testpmd forwards until its stdin ends, which is immediately.
TESTPMD_ARGUMENTS = ("--", "--total-num-mbufs=2048")
PORTS = re.compile(r"forwarding ports=(\d+)")
CLIENT_TIMEOUT_S = 120.0
# The user that QEMU runs as and its view of the host are libvirt's choice and not under test.
LIBVIRT_SETTINGS = """\
user = "root"
group = "root"
namespaces = []
remember_owner = 0
security_driver = "none"
"""
LIBVIRT_SETTINGS_FILE = "/etc/libvirt/qemu.conf"
DOMAIN_FILE = "/run/inner.xml"
DOMAIN = """\
<domain type="qemu">
  <name>inner</name>
  <memory unit="MiB">64</memory>
  <os><type arch="{arch}" machine="{machine}">hvm</type></os>
  <devices>
    <emulator>/usr/bin/{qemu}</emulator>
    <memballoon model="none"/>
    <hostdev mode="subsystem" type="pci" managed="no">
      <source>
        <address domain="{domain:#x}" bus="{bus:#x}" slot="{slot:#x}" function="{function:#x}"/>
      </source>
    </hostdev>
  </devices>
</domain>
"""


@dataclass(frozen=True)
class Forwarded:
    """The result of a testpmd run.

    Args:
        ports: the number of ports that it forwarded between; 0 or 1.
        said: its output on stderr.
    """

    ports: int
    said: str


@dataclass(frozen=True)
class Dpdk:
    """A user that runs dpdk-testpmd.

    Args:
        user: the user.
    """

    user: User

    def forward(self, function: PciFunction, token: UUID | None = None) -> Forwarded:
        """Run testpmd on a function until it ends.

        Args:
            function: testpmd's only port.
            token: the VF token that testpmd presents.
        """
        given = [] if token is None else [f"--vfio-vf-token={token}"]
        words = (*TESTPMD, "-a", str(function), *given, *TESTPMD_ARGUMENTS)
        done = self.user.run(*words, timeout_s=CLIENT_TIMEOUT_S)
        ports = PORTS.findall(done.stdout)
        return Forwarded(int(ports[-1]) if ports else 0, done.stderr)


@dataclass(frozen=True)
class Libvirt:
    """A user that runs virsh.

    Args:
        user: the user.
    """

    user: User

    def detach(self, function: PciFunction) -> CommandResult:
        """Detach a function from its host driver and bind it to vfio-pci."""
        return self._virsh("nodedev-detach", node(function))

    def reattach(self, function: PciFunction) -> CommandResult:
        """Return a function to its host driver."""
        return self._virsh("nodedev-reattach", node(function))

    def create(self, function: PciFunction) -> CommandResult:
        """Start a domain with the function assigned; its CPUs stay paused."""
        bdf = function.bdf
        xml = DOMAIN.format(
            arch=X86_64.name,
            machine=X86_64.machine[0],
            qemu=X86_64.qemu,
            domain=bdf.domain,
            bus=bdf.bus,
            slot=bdf.device,
            function=bdf.function,
        )
        put(self.user, DOMAIN_FILE, xml)
        return self._virsh("create", "--paused", DOMAIN_FILE)

    def _virsh(self, *words: str) -> CommandResult:
        return self.user.run("virsh", "-c", "qemu:///system", *words, timeout_s=CLIENT_TIMEOUT_S)


def node(function: PciFunction) -> str:
    """Return libvirt's name of a function, `pci_0000_01_00_0`."""
    return f"pci_{function}".replace(":", "_").replace(".", "_")


def put(user: User, path: str, text: str) -> None:
    """Write a file, creating or replacing it.

    Args:
        user: the user that writes the file.
        path: the file's path.
        text: the new content.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = user.syscall(
        "openat", AT_FDCWD, Buffer(path.encode() + b"\0"), flags, 0o600, label="open", about=path
    ).value
    user.write(fd, text.encode())
    user.close(fd)
