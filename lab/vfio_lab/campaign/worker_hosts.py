"""Other hosts that run a share of the scenarios, reached by ssh(1) as the user has set it up."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vfio_lab.campaign.runs import possible_jobs
from vfio_lab.errors import HostError, UsageError

FOLDER = "vfio-lab-workers"
SSH = shutil.which("ssh") or "/usr/bin/ssh"
# Without a terminal nobody can answer a question; a host that is gone is noticed in 20 s.
OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
)
WORD = re.compile(r"(?P<name>[^\s*,-][^\s*,]*)(?:\*(?P<jobs>[1-9]\d*))?")
NO_CONNECTION = 255
PROBE = """
import json, os, platform, sys
home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
print(json.dumps({
    "python": list(sys.version_info[:2]),
    "machine": platform.machine(),
    "folder": os.path.join(home, FOLDER),
    "cores": len(os.sched_getaffinity(0)),
}))
"""


@dataclass(frozen=True)
class WorkerHost:
    """A host as the user names it.

    Args:
        name: for ssh(1): `host`, `user@host` or a name in ~/.ssh/config.
        jobs: guests at a time, None for as many as it can run.
    """

    name: str
    jobs: int | None = None

    @classmethod
    def parse(cls, text: str) -> tuple[WorkerHost, ...]:
        """Return the hosts in a list such as `one,root@two*4`.

        Raises:
            UsageError: it is no such list, or it names a host twice.
        """
        words = [WORD.fullmatch(word.strip()) for word in text.split(",")]
        hosts = tuple(
            cls(word["name"], int(word["jobs"]) if word["jobs"] else None) for word in words if word
        )
        twice = [name for name, count in Counter(host.name for host in hosts).items() if count > 1]
        if len(hosts) != len(words) or twice:
            raise UsageError(
                f"cannot use the hosts {text!r}",
                expected="names for ssh, each once, with the number of guests: one,root@two*4",
                seen=f"{twice[0]} twice" if twice else "a word that is no host",
            )
        return hosts

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a command on the host; its output can be read.

        Args:
            words: the command; they reach it as they are.
            stdin: as for Popen.
        """
        return subprocess.Popen(
            [SSH, *OPTIONS, self.name, shlex.join(words)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, what: str, *words: str, data: bytes = b"") -> bytes:
        """Run a command on the host and return what it printed.

        Args:
            what: the attempt, for the error.
            words: the command.
            data: its standard input.

        Raises:
            HostError: the host cannot be reached, or the command failed.
        """
        with self.start(*words, stdin=subprocess.PIPE) as process:
            printed, said = process.communicate(data)
        if process.returncode:
            raise self.failure(what, process.returncode, said)
        return printed

    def failure(self, what: str, code: int, said: bytes) -> HostError:
        """Return the error of a command that failed on the host.

        Args:
            what: the attempt.
            code: the exit code of ssh.
            said: what the command wrote to stderr.
        """
        lines = said.decode(errors="replace").strip().splitlines()
        unreached = f"`ssh {self.name} true` must work without a password"
        return HostError(
            f"cannot {what} on host {self.name}",
            seen=lines[-1] if lines else f"exit code {code}",
            hint=unreached if code == NO_CONNECTION else "",
        )

    def answers(self) -> bool:
        """Return whether the host can be reached."""
        with self.start("true") as process:
            process.communicate()
        return process.returncode == 0


@dataclass(frozen=True)
class Reached:
    """A host that was reached, and can run this host's Python packages.

    Args:
        host: its name.
        jobs: guests at a time.
        folder: the lab's folder there.
    """

    host: WorkerHost
    jobs: int
    folder: PurePosixPath

    def python(self, *paths: PurePosixPath) -> tuple[str, ...]:
        """Return the command of a Python there that has the packages in some folders only."""
        return ("env", f"PYTHONPATH={':'.join(map(str, paths))}", "python3", "-P", "-S")

    def has(self, path: PurePosixPath) -> bool:
        """Return whether there is such a file or folder."""
        script = 'if test -e "$1"; then touch "$1"; echo yes; fi'
        return bool(self.host.run("look at a folder", "sh", "-c", script, "sh", str(path)))


def reach(host: WorkerHost) -> Reached:
    """Look at a host.

    Raises:
        HostError: it cannot be reached, or it is of another architecture or Python.
    """
    script = f"FOLDER = {FOLDER!r}{PROBE}"
    found: dict[str, Any] = json.loads(host.run("look for Python", "python3", "-c", script))
    pairs = {
        "architecture": (platform.machine(), found["machine"]),
        "Python": (f"{sys.version_info.major}.{sys.version_info.minor}", _dotted(found["python"])),
    }
    for word, (here, there) in pairs.items():
        if here != there:
            raise HostError(
                f"host {host.name} cannot take part",
                expected=f"{word} {here}, as here",
                seen=there,
                hint=f"leave it out of --lab-hosts, or install python{here}"
                if word == "Python"
                else "run the lab there by itself",
            )
    jobs = host.jobs or possible_jobs(int(found["cores"]))
    return Reached(host, jobs, PurePosixPath(found["folder"]))


def _dotted(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))
