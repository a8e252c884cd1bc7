"""Remote machines: scenarios use one device over SSH, and each scenario puts it back."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from vfio_lab.arch import X86_64
from vfio_lab.client.channel import Channel
from vfio_lab.client.transcript import Entry
from vfio_lab.errors import AgentError, HostError, LabError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.hw.pci import Bdf
from vfio_lab.hw.topology import Topology
from vfio_lab.hw.tree import Function, Model, Sriov
from vfio_lab.image import agent, rootfs
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.allowlist import Allowlist, NotPermittedOnHost, RestrictedChannel
from vfio_lab.machine.base import ClockAnchor, TestMachine
from vfio_lab.machine.ssh import Login, Ssh
from vfio_lab.spec.changes import version_of
from vfio_lab.util import resources
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.vfio import VfioUser

LEASE = resources.PACKAGE / "agent/lease"
TIMEOUT_S = 60.0
PF = "pf0"
TOPOLOGY = "igb"  # the topology of the scenarios that need no more than a PF


class Session(Protocol):
    """A started command: the methods of paramiko's channel that the lab uses."""

    def recv(self, size: int, /) -> bytes:
        """Return bytes from the command's stdout."""

    def recv_stderr(self, size: int, /) -> bytes:
        """Return bytes from the command's stderr."""

    def sendall(self, data: bytes, /) -> None:
        """Write to the command's stdin."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Set the timeout of the calls above."""

    def shutdown_write(self) -> None:
        """Close the command's stdin."""

    def exit_status_ready(self) -> bool:
        """Whether the command has ended."""

    def recv_exit_status(self) -> int:
        """Return the command's exit code."""

    def close(self) -> None:
        """Close the session."""


@dataclass(frozen=True, repr=False)
class Found(Topology):
    """The topology of hardware that was found on a machine.

    Args:
        found: the functions that scenarios may use.
    """

    found: tuple[Function, ...] = ()

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """The functions that scenarios may use."""
        return self.found


@dataclass(frozen=True)
class RemoteHost:
    """A remote machine and the one device of it that scenarios may use.

    Args:
        login: where it is.
        pf: the device.
        kernel: the kernel that it runs.
        topology: the device, as `pf0`.
        allowlist: what may be touched.
        ssh: the connection.
    """

    login: Login
    pf: Bdf
    kernel: Kernel
    topology: Topology
    allowlist: Allowlist
    ssh: Ssh

    def __repr__(self) -> str:
        """Return `RemoteHost(0000:41:00.0 of root@machine)`."""
        return f"{type(self).__name__}({self.pf} of {self.login.user}@{self.login.host})"

    @classmethod
    def reach(cls, login: Login, pf: Bdf, folder: Path) -> RemoteHost:
        """Read the facts of a machine without changing anything.

        Args:
            login: where it is.
            pf: the device that scenarios may use.
            folder: where to keep its kernel's configuration.

        Raises:
            SshError: no connection.
            HostError: the device is in use, is no PF, or cannot be used.
        """
        ssh = Ssh(login, Deadline.after(TIMEOUT_S))
        facts = _look(ssh, pf)
        if facts["machine"] != X86_64.name:
            ssh.close()
            raise _other_architecture(login, facts["machine"])
        if facts["objections"]:
            ssh.close()
            raise _refusal(login, pf, "; ".join(facts["objections"]))
        function = Function(PF, _model(facts["pf"]), pf)
        vfs = [function.vf(index) for index in range(facts["pf"]["total_vfs"])]
        return cls(
            login,
            pf,
            _kernel(facts, folder),
            Found(login.host, "a real machine", (), found=(function,)),
            Allowlist(frozenset(map(str, (pf, *vfs)))),
            ssh,
        )

    @property
    def host(self) -> dict[str, str]:
        """The machine's entry in a run's results."""
        machine = f"{self.login.user}@{self.login.host}, {self.pf}"
        return {"qemu": "none", "accelerator": "real hardware", "machine": machine}

    def lacks(self, topology: Topology, image_name: str) -> str:
        """Return what a scenario needs and this machine lacks, empty if nothing."""
        if image_name != rootfs.BASE:
            return f"the image {image_name}"
        roles = [each.role for each in topology.endpoints if each.model.qemu and not each.is_slot]
        missing = sorted(role for role in roles if role != PF)
        if missing:
            return ", ".join(missing)
        same = topology == find_topology(TOPOLOGY)
        return "" if same else f"hardware like topology {topology.name}"


@dataclass(repr=False)
class RemoteMachine(TestMachine):
    """A remote machine during one scenario; `close` puts everything back."""

    name: str
    machine: RemoteHost
    folder: Path
    channel: Channel
    session: Session
    transcript: list[Entry] = field(default_factory=list)
    users: list[VfioUser] = field(default_factory=list)
    awake: ClockAnchor | None = None
    _log: list[str] = field(default_factory=list)

    @classmethod
    def borrow(cls, name: str, machine: RemoteHost, folder: Path) -> RemoteMachine:
        """Start an agent on the machine and let it use the device.

        Args:
            name: unique in the run; it also names the evidence.
            machine: the host and the PF to borrow.
            folder: where logs and transcript go; made if it is missing.

        Raises:
            HostError: the device is in use by now.
            AgentError: the machine cannot run the agent.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        program = agent.build_agent(Cache.default()).read_bytes()
        session = _start(machine.ssh, machine.pf, "lend", program)
        channel = RestrictedChannel(session, name, allowlist=machine.allowlist)
        guest = cls(name, machine, folder, channel, session)
        channel.error_context = guest.error_context
        try:
            channel.await_ready(Deadline.after(TIMEOUT_S))
            stamp = guest.ask("mark", "mark the kernel log")
        except BaseException:
            guest.close()
            raise
        guest.awake = ClockAnchor((stamp["began"] + stamp["ended"]) / 2, stamp["log_us"])
        return guest

    def taints(self, *, ours: bool = False) -> frozenset[int]:
        """Refuse: taints stay until a reboot, so those of another cause cannot be told apart."""
        del ours
        raise NotPermittedOnHost("a taint of a remote machine may be older than the scenario")

    def unload(self, module: str) -> None:
        """Refuse: other processes of the machine may use the module."""
        raise NotPermittedOnHost(f"other processes may use its module {module}")

    def __getattr__(self, name: str) -> Any:
        """Refuse what only guests have: a monitor, a process, a power button."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotPermittedOnHost(f"a remote machine has no {name}: only guests do")

    def error_context(self) -> dict[str, Any]:
        """Return the fields of an error about this machine."""
        return {"seen": _complaint(self.session)} if self.session.exit_status_ready() else {}

    def close(self) -> None:
        """End the lease and wait until the device is put back; idempotent.

        Raises:
            HostError: something was not put back; the error names it.
        """
        for user in reversed(self.users):  # in this order; the agent's end keeps none
            with contextlib.suppress(LabError):
                user.kill()
        self.session.shutdown_write()
        try:
            deadline = Deadline.after(TIMEOUT_S)
            wait_until("the device to be put back", self.session.exit_status_ready, deadline)
            code, said = self.session.recv_exit_status(), _complaint(self.session)
        finally:
            self.channel.close()
        if code:
            raise _refusal(self.machine.login, self.machine.pf, said or f"exit code {code}")

    def paste(self) -> str:
        """Return the command line that logs a person in to the machine."""
        return shlex.join(self.machine.login.command())


def _look(ssh: Ssh, pf: Bdf) -> dict[str, Any]:
    session = _start(ssh, pf, "look")
    parts: list[bytes] = []
    read = _reader(session.recv, parts)
    wait_until(f"{ssh.login.host} to say what it is", read, Deadline.after(TIMEOUT_S))
    try:
        return dict(json.loads(b"".join(parts)))
    except ValueError as error:
        raise AgentError(
            f"{ssh.login.host} cannot say what it is",
            expected="python3 there, and root or sudo without a password",
            tail=_complaint(session),
        ) from error


def _reader(receive: Callable[[int], bytes], parts: list[bytes]) -> Callable[[], bool]:
    """Return a probe that reads what has arrived and says whether the stream has ended."""

    def probe() -> bool:
        try:
            parts.append(receive(1 << 16))
        except TimeoutError:
            return False
        return not parts[-1]

    return probe


def _start(ssh: Ssh, pf: Bdf, mode: str, program: bytes = b"") -> Session:
    """Send the lease and the agent to the machine, and start the lease."""
    files = {f"lease/{path.name}": path.read_text() for path in LEASE.glob("*.py")}
    data = json.dumps(files).encode()
    bootstrap = (LEASE / "bootstrap.py").read_text()
    sudo = [] if ssh.login.user == "root" else ["sudo", "-n"]
    sizes = (str(len(data)), str(len(program)))
    command = [*sudo, "python3", "-S", "-c", bootstrap, *sizes, str(pf), mode]
    session: Session = ssh.carrier(*command, deadline=Deadline.after(TIMEOUT_S))
    session.settimeout(TIMEOUT_S)
    session.sendall(data + program)
    return session


def _complaint(session: Session) -> str:
    parts: list[bytes] = []
    session.settimeout(1.0)
    wait_until("stderr", _reader(session.recv_stderr, parts), Deadline.after(TIMEOUT_S))
    return b"".join(parts).decode(errors="replace").strip()


def _other_architecture(login: Login, machine: str) -> HostError:
    return HostError(
        f"{login.host} is of an architecture that the lab cannot drive",
        expected=X86_64.name,
        seen=machine,
        hint="name another machine with --lab-host",
    )


def _refusal(login: Login, pf: Bdf, seen: str) -> HostError:
    return HostError(
        f"{pf} of {login.host} cannot be used, or was not put back",
        device=str(pf),
        expected="an SR-IOV PF that is not in use",
        seen=seen,
        hint="name another with --lab-pf, or free this one: the lab takes no device in use",
    )


def _model(facts: dict[str, int]) -> Model:
    sriov = Sriov(facts["total_vfs"], facts["offset"], facts["stride"], facts["vf_device"])
    return Model("real", facts["vendor"], facts["device"], sriov=sriov)


def _kernel(facts: dict[str, Any], folder: Path) -> Kernel:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / "kernel-config"
    config.write_text(facts["config"])
    release = facts["release"]
    nowhere = Path("/nonexistent")
    version = version_of(release, facts["built"])
    return Kernel(release, release, version, nowhere, nowhere, config, release, lasting=False)
