"""SSH connections to guests and remote machines; the only module that imports paramiko."""

from __future__ import annotations

import base64
import contextlib
import getpass
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import paramiko

from vfio_lab.client.call import CommandResult
from vfio_lab.errors import DeadlineExceeded, LabError
from vfio_lab.util.deadline import Deadline

READ_BYTES = 1 << 16
POLL_S = 0.02
KEEPALIVE_S = 15
PLAIN_TERMINAL = "xterm-256color"


class SshError(LabError):
    """The connection could not be made or broke."""

    usual_hint = "does the guest, or the machine, still run? its console says"


class Output(NamedTuple):
    """What a command has written so far."""

    out: list[bytes]
    err: list[bytes]


@dataclass(frozen=True)
class Terminal:
    """The kind and size of a terminal, as the other side needs them.

    Args:
        kind: its name in terminfo.
        columns: width.
        rows: height.
    """

    kind: str
    columns: int
    rows: int

    @classmethod
    def current(cls) -> Terminal:
        """Return the terminal on our stdout."""
        size = os.get_terminal_size(sys.stdout.fileno())
        return cls(os.environ.get("TERM", PLAIN_TERMINAL), size.columns, size.lines)


@dataclass(frozen=True)
class Login:
    """The address, account and keys of an SSH connection.

    Args:
        host: address, for guests always loopback.
        port: TCP port.
        user: account.
        key: private key file; None uses the user's own agent and keys.
        host_key: the one public host key to accept; None takes those of known_hosts.
        relay: a command whose stdin and stdout are the connection, if the port is in another
            network; an empty one connects to it.
    """

    host: str
    port: int
    user: str = "root"
    key: Path | None = None
    host_key: Path | None = None
    relay: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return `Login(root@machine:22)`."""
        return f"{type(self).__name__}({self.user}@{self.host}:{self.port})"

    @classmethod
    def known_as(cls, text: str) -> Login:
        """Return the login that `ssh TEXT` would use, by the user's own ~/.ssh/config.

        Args:
            text: `machine` or `user@machine`.
        """
        user, _, host = text.rpartition("@")
        path = Path("~/.ssh/config").expanduser()
        config = paramiko.SSHConfig.from_path(str(path)) if path.exists() else paramiko.SSHConfig()
        found = config.lookup(host)
        return cls(
            found.get("hostname", host),
            int(found.get("port", paramiko.config.SSH_PORT)),
            user or found.get("user", getpass.getuser()),
            key=next((Path(name).expanduser() for name in found.get("identityfile", [])), None),
        )

    def command(self) -> list[str]:
        """Return the ssh command line a person would type."""
        options = [f"-p{self.port}"]
        if self.key is not None:
            options += ["-i", str(self.key), "-o", "IdentitiesOnly=yes"]
        if self.host_key is not None:
            options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        if self.relay:
            options += ["-o", f"ProxyCommand={shlex.join(self.relay).replace('%', '%%')}"]
        return ["ssh", *options, f"{self.user}@{self.host}"]


class Ssh:
    """An open connection.

    Args:
        login: where to.
        deadline: bounds connecting and authenticating.

    Raises:
        SshError: no connection; says what the other side did.
    """

    def __init__(self, login: Login, deadline: Deadline) -> None:
        self.login = login
        self._client = paramiko.SSHClient()
        self._relay: subprocess.Popen[bytes] | None = None
        if login.host_key is None:
            self._client.load_system_host_keys()
        else:
            kind, text = login.host_key.read_text().split()[:2]
            key = paramiko.PKey.from_type_string(kind, base64.b64decode(text))
            name = login.host if login.port == paramiko.config.SSH_PORT else _bracketed(login)
            self._client.get_host_keys().add(name, kind, key)
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            self._client.connect(
                login.host,
                login.port,
                login.user,
                key_filename=str(login.key) if login.key else None,
                look_for_keys=login.key is None,
                allow_agent=login.key is None,
                sock=self._relayed() if login.relay else None,
                timeout=deadline.blocking_s,
                banner_timeout=deadline.blocking_s,
                auth_timeout=deadline.blocking_s,
            )
        except (OSError, paramiko.SSHException) as error:
            self.close()
            raise SshError(
                f"no SSH connection to {login.user}@{login.host} port {login.port}",
                seen=repr(error),
                hint="is sshd up there? try: " + shlex.join(login.command()),
            ) from error

    def run(self, *argv: str, deadline: Deadline) -> CommandResult:
        """Run a command and return its exit code and output; read both streams as they come.

        Raises:
            DeadlineExceeded: the command did not end; its session is closed.
            SshError: the connection broke.
        """
        output = Output([], [])
        with self._session(argv, deadline) as channel:
            while not (channel.closed or (channel.exit_status_ready() and channel.eof_received)):
                _drain(channel, output)
                if deadline.passed:
                    raise DeadlineExceeded(
                        f"no end of: {shlex.join(argv)}",
                        guest=self.login.host,
                        expected="its exit code before the deadline",
                        tail=_text(output.out + output.err),
                    )
            while channel.recv_ready() or channel.recv_stderr_ready():
                _drain(channel, output)
            code = channel.recv_exit_status()
            if code < 0 and not channel.get_transport().is_active():
                raise self._broken(argv[0], "the end of the connection before that of the command")
            return CommandResult(argv, code, _text(output.out), _text(output.err))

    def carrier(
        self, *argv: str, deadline: Deadline, terminal: Terminal | None = None
    ) -> paramiko.Channel:
        """Start a command and return its stdin and stdout as one stream.

        Args:
            argv: the command.
            deadline: bounds its start.
            terminal: the terminal that it runs on; None gives it pipes.

        Raises:
            SshError: the connection broke.
        """
        return self._session(argv, deadline, terminal)

    def put(self, source: Path, target: str) -> None:
        """Copy a file to the other side."""
        with self._client.open_sftp() as sftp:
            sftp.put(str(source), target)

    @property
    def client(self) -> paramiko.SSHClient:
        """The paramiko client, for libraries that take one."""
        return self._client

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()

    def _relayed(self) -> socket.socket:
        """Start the relay and return our end of the connection."""
        ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            self._relay = subprocess.Popen(self.login.relay, stdin=end, stdout=end)
        return ours

    def _broken(self, command: str, seen: str) -> SshError:
        what = f"the SSH connection to {self.login.host} broke: {command}"
        expected = "an open connection until the command ends"
        return SshError(what, guest=self.login.host, expected=expected, seen=seen)

    def _session(
        self, argv: Sequence[str], deadline: Deadline, terminal: Terminal | None = None
    ) -> paramiko.Channel:
        transport = self._client.get_transport()
        if transport is None:
            raise SshError(
                f"the SSH connection to {self.login.host} is closed",
                guest=self.login.host,
                expected="an open one",
                seen="one that was closed on this side",
            )
        transport.set_keepalive(KEEPALIVE_S)
        try:
            channel = transport.open_session(timeout=deadline.blocking_s)
            channel.settimeout(POLL_S)
            if terminal is not None:
                channel.get_pty(terminal.kind, terminal.columns, terminal.rows)
            channel.exec_command(shlex.join(argv))
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._broken(argv[0], repr(error)) from error
        return channel


def _bracketed(login: Login) -> str:
    return f"[{login.host}]:{login.port}"


def _text(parts: list[bytes]) -> str:
    return b"".join(parts).decode(errors="replace")


def _drain(channel: paramiko.Channel, output: Output) -> None:
    """Read what has arrived; wait a moment when nothing has."""
    while channel.recv_stderr_ready():
        output.err.append(channel.recv_stderr(READ_BYTES))
    if channel.eof_received and not channel.recv_ready():
        channel.status_event.wait(POLL_S)  # a read would not wait
        return
    with contextlib.suppress(TimeoutError):
        output.out.append(channel.recv(READ_BYTES))
