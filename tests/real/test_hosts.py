"""Workers on other hosts: execnet over real ssh, and a cache that was copied there."""

import contextlib
import getpass
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.template import GuestFactory
from vfio_lab.spec.scenarios import PROJECT
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline, wait_until

SCENARIOS = "scenarios/vf_token/test_match.py"
KERNEL = "7.3"
UP_WITHIN_S = 10.0
PARTS = ("accelerator", "keys", "source")
SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {keys}/host
AuthorizedKeysFile {keys}/user.pub
StrictModes no
PidFile {home}/pid
ForceCommand cd {home} && exec env -u XDG_CACHE_HOME HOME={home} sh -c "$SSH_ORIGINAL_COMMAND"
"""
SSH = """
Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {keys}/user
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""
PORTS = {"one": 22201, "two": 22202}


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Path]:
    """Two hosts that differ in home and cache; return the configuration for ssh."""
    sshd = tool("sshd")
    keys, config = tmp_path / "keys", tmp_path / "config"
    keys.mkdir()
    for name in ("host", "user"):
        command = [tool("ssh-keygen"), "-qt", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(command, check=True)
    with contextlib.ExitStack() as running:
        for name, port in PORTS.items():
            home = tmp_path / name
            home.mkdir()
            who = {"name": name, "user": getpass.getuser()}
            facts = {**who, "port": port, "home": home, "keys": keys}
            settings = tmp_path / f"{name}.conf"
            settings.write_text(SSHD.format(**facts))
            with config.open("a") as file:
                file.write(SSH.format(**facts))
            server = subprocess.Popen([sshd, "-D", "-f", settings, "-E", home / "log"])
            running.enter_context(server)
            running.callback(server.terminate)
        deadline = Deadline.after(UP_WITHIN_S)
        wait_until("both hosts", lambda: all(answers(config, name) for name in PORTS), deadline)
        yield config


def tool(name: str) -> str:
    """Return where a program is, an administrator's too."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if found is None:
        pytest.skip(f"this host lacks {name}")
    return found


def answers(config: Path, name: str) -> bool:
    """Return whether a host lets us in."""
    command = [tool("ssh"), "-F", str(config), name, "true"]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def copy(config: Path, name: str, source: Path, target: str) -> None:
    """Copy a folder to a host, as docs/machines.md has it."""
    shell = ["-e", shlex.join(["ssh", "-F", str(config)])]
    subprocess.run(
        [tool("rsync"), "-aS", "--mkpath", *shell, f"{source}/", f"{name}:{target}/"],
        check=True,
    )


def test_two_hosts_share_the_scenarios_and_a_copied_cache(hosts: Path, tmp_path: Path) -> None:
    cache = Cache.default().open()
    files = GuestFactory.open(cache, KERNEL).boot_spec(find_topology("igb")).files
    entries = [
        path.parent for path in (files.kernel, files.image, files.payload, files.ram) if path
    ]
    for name in PORTS:
        for part in [*entries, *(cache.root / part for part in PARTS)]:
            copy(hosts, name, part, f".cache/vfio-lab/{part.relative_to(cache.root)}")
    ignored = (".venv", ".git", ".artifacts", ".hypothesis", "build")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", str(PROJECT / SCENARIOS), "-k", "hardware"),
            *("--dist", "load", f"--lab-kernel={KERNEL}", f"--rsyncdir={PROJECT}"),
            *("-W", "ignore:The --rsyncdir:DeprecationWarning"),
            *(f"--rsyncignore={name}" for name in ignored),
            *(f"--tx=ssh=-F {hosts} {name}//python={sys.executable}" for name in PORTS),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "Freezing template igb on" not in done.stdout + done.stderr
    for name in PORTS:
        assert list(tmp_path.glob(f"{name}/pyexecnetcache/*/.artifacts/*/*/transcript.log"))
