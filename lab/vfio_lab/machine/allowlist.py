"""The requests that a remote machine's agent may get: those that affect only the lab's device."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from vfio_lab.arch import X86_64
from vfio_lab.client.channel import Channel, Pending
from vfio_lab.errors import LabError
from vfio_lab.uapi.syscalls import (
    O_CREAT,
    O_RDWR,
    O_WRONLY,
)

# System calls that affect only the caller and its open files.
HARMLESS = frozenset(X86_64.syscalls) - {
    *("chown", "execve", "kexec_file_load", "openat", "prctl", "reboot", "sethostname"),
}
CALLS = {number: name for name, number in X86_64.syscalls.items()}
NODES = re.compile(r"/dev/(vfio/\S+|iommu|null)")
BINDING = re.compile(r"/sys/bus/pci/(drivers/(vfio-pci|pci-stub)/(bind|unbind)|drivers_probe)")
PARAMETERS = "/sys/module/vfio_pci/parameters/"
UNBIND = re.compile(r"/sys/bus/pci/drivers/[^/]+/unbind")
ATTRIBUTE = re.compile(r"/sys/bus/pci/devices/([^/]+)/(?:power/)?([^/]+)")
# Attributes that take a device away, or do something to its neighbours.
FOREIGN = frozenset({"remove", "rescan", "reset_subordinate"})
MODULES = frozenset({"vfio", "vfio-pci", "vfio_iommu_type1", "iommufd"})


class NotPermittedOnHost(LabError):
    """A remote machine does not permit this request; a guest does."""

    usual_hint = "run the scenario without --lab-host"


@dataclass(frozen=True)
class Allowlist:
    """The device that the lab may use, and its VFs.

    Args:
        functions: the addresses of the device and of its VFs.
    """

    functions: frozenset[str]

    def objection(self, op: str, args: dict[str, Any]) -> str | None:
        """Return what is wrong with a request to the agent, None if it may be made."""
        match op:
            case "write_file":
                text = bytes.fromhex(args["data"]).decode(errors="replace").strip()
                path = args["path"]
                return None if self.writable(path, text) else f"writes {text!r} to {path}"
            case "run":
                return None if _loads_vfio(args["argv"]) else f"runs {' '.join(args['argv'])}"
            case "syscall":
                return self._call(CALLS[args["number"]], args["args"])
        return None

    def writable(self, path: str, text: str) -> bool:
        """Whether a file may be written: one of the device's, or one that names it."""
        if BINDING.fullmatch(path) or UNBIND.fullmatch(path):
            return text in self.functions
        return path.startswith(PARAMETERS) or self.owned(path)

    def owned(self, path: str) -> bool:
        """Whether a file is an attribute of the device itself that affects no other device."""
        match = ATTRIBUTE.fullmatch(path)
        return match is not None and match[1] in self.functions and match[2] not in FOREIGN

    def _call(self, name: str, args: list[Any]) -> str | None:
        if name in HARMLESS:
            return None
        if name != "openat":
            return f"calls {name}"
        path = bytes.fromhex(args[1]["data"]).rstrip(b"\0").decode(errors="replace")
        reads = not args[2] & (O_WRONLY | O_RDWR | O_CREAT)
        allowed = reads or NODES.fullmatch(path) or self.owned(path)
        return None if allowed else f"opens {path} to write"


@dataclass(repr=False)
class RestrictedChannel(Channel):
    """An agent's stream that sends only the requests that its allowlist permits."""

    allowlist: Allowlist = field(default_factory=lambda: Allowlist(frozenset()))

    def start(self, pid: int, op: str, about: str, /, **args: object) -> Pending:
        """Send a request and return without waiting.

        Args:
            pid: the user to ask, or `ROUTER`.
            op: the agent's operation.
            about: the request in words, for errors.
            args: the operation's arguments.

        Raises:
            NotPermittedOnHost: the allowlist refuses the request.
        """
        if (objection := self.allowlist.objection(op, args)) is not None:
            raise NotPermittedOnHost(f"it {objection}, which is not the device that was named")
        return super().start(pid, op, about, **args)


def _loads_vfio(argv: list[str]) -> bool:
    return argv[0] == "modprobe" and MODULES.issuperset(argv[1:])
