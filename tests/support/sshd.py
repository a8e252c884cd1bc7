"""Hosts to spread a run over: sshds of the test's own, each with a cache of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.util.host_time import family

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
START_TIMEOUT_S = 60.0
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile {folder}/pid
UsePAM no
StrictModes no
SetEnv XDG_CACHE_HOME={folder}/cache
"""
CLIENT = """\
Host {name}
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""


@dataclass(frozen=True)
class SshHost:
    """An sshd, and what is behind it.

    Args:
        name: for ssh.
        folder: of its files; its cache is in it.
        process: the sshd.
    """

    name: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def cache(self) -> Path:
        """The cache of those who log in."""
        return self.folder / "cache" / "vfio-lab"

    @property
    def workers(self) -> Path:
        """What the lab puts there besides the cache."""
        return self.folder / "cache" / "vfio-lab-workers"

    def die(self) -> None:
        """Kill the sshd and all that came through it, as when the machine loses power."""
        for pid in reversed(list(family(self.process.pid))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def ssh_hosts(folder: Path, *names: str) -> Iterator[tuple[dict[str, str], dict[str, SshHost]]]:
    """Start an sshd for each name; yield the environment in which ssh knows them, and them.

    A host that has no sshd skips the test.
    """
    if SSHD is None or not shutil.which("ssh"):
        pytest.skip("needs sshd and ssh: this host has not both")
    config, hosts = folder / "config", {}
    config.touch()
    with contextlib.ExitStack() as stack:
        for name in names:
            hosts[name] = _start(folder / name, name, config)
            stack.callback(hosts[name].die)
        client = folder / "bin" / "ssh"
        client.parent.mkdir()
        client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
        client.chmod(0o755)
        plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        yield {**plain, "PATH": f"{client.parent}:{os.environ['PATH']}"}, hosts


def _start(folder: Path, name: str, config: Path) -> SshHost:
    folder.mkdir()
    (folder / "cache").mkdir()
    for key in ("key", "host_key"):
        words = ("-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
        subprocess.run(["ssh-keygen", *words], check=True)  # noqa: S607 - as ssh itself
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    facts = {"port": port, "folder": folder, "name": name, "user": getpass.getuser()}
    (folder / "sshd_config").write_text(SERVER.format(**facts))
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    with config.open("a") as file:
        file.write(CLIENT.format(**facts))
    assert SSHD is not None
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    wait_until(f"sshd {name} to listen", listens, Deadline.after(START_TIMEOUT_S))
    return SshHost(name, folder, process)
