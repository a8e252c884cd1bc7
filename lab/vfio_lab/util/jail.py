"""A jail for untrusted code: no home folders, no network and few writable folders.

A Makefile, a Kconfig `$(shell)` or a script in a patch series runs with the rights of the user who
builds it; so does a QEMU whose guest has broken out. bubblewrap runs them in separate namespaces,
with a read-only file system.

Source: bwrap(1), prlimit(1), user_namespaces(7).
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.errors import HostError
from vfio_lab.util import host

BWRAP, PRLIMIT = "bwrap", "prlimit"
# Set by --no-jail; runs that a command starts inherit it.
OFF = "VFIO_LAB_NO_JAIL"
# Folders with private files of users and services.
HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/tmp", "/mnt", "/media", "/srv", "/etc/ssh")  # noqa: S108 - hidden, not used
PRIVATE = ("SSH_", "DBUS_", "XDG_RUNTIME", "GPG_")
SECRET = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
ADDRESS_SPACE_BYTES = 16 << 30
FILE_BYTES = 4 << 30
PROCESSES = 8192


@dataclass(frozen=True)
class Jail:
    """The folders that a program may write and read.

    Args:
        writable: folders that the program may write to; they must exist.
        visible: files and folders inside hidden ones that the program may still read.
        devices: the only devices that it has; None gives it the harmless ones, and terminals.
        dumps_core: whether a crash leaves a core.
    """

    writable: tuple[Path, ...]
    visible: tuple[Path, ...] = ()
    devices: tuple[Path, ...] | None = None
    dumps_core: bool = False

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command in the jail."""
        hidden = {*HIDDEN, os.path.realpath(Path.home())} - {"/"}
        # fmt: off
        return [
            PRLIMIT,
            f"--as={ADDRESS_SPACE_BYTES}", f"--fsize={FILE_BYTES}", f"--nproc={PROCESSES}",
            *(() if self.dumps_core else ("--core=0",)), "--",
            BWRAP,
            "--unshare-all", "--die-with-parent", "--new-session",
            "--ro-bind", "/", "/",
            *self._dev(),
            "--proc", "/proc",
            *(word for path in sorted(hidden) if Path(path).is_dir() for word in ("--tmpfs", path)),
            *(word for path in self.visible for word in ("--ro-bind", *_twice(path))),
            *(word for path in self.writable for word in ("--bind", *_twice(path))),
            *(word for name in sorted(_private()) for word in ("--unsetenv", name)),
            "--", *command,
        ]
        # fmt: on

    def _dev(self) -> tuple[str, ...]:
        if self.devices is None:
            return ("--dev", "/dev")
        bound = (word for path in self.devices for word in ("--dev-bind", *_twice(path)))
        return ("--tmpfs", "/dev", *bound)


def confine(command: Sequence[str], jail: Jail, *, foreign: bool) -> list[str]:
    """Return the command line that runs a build, in a jail if this host supports one.

    Args:
        command: the build.
        jail: the folders that the build may write and read.
        foreign: whether the code is untrusted; only trusted code may be built without a jail.

    Raises:
        HostError: the code is untrusted, and this host does not support a jail.
    """
    if confines():
        return jail.wrap(command)
    if foreign and not os.environ.get(OFF):
        raise HostError(
            "untrusted code is built in a jail only, and this host does not support one",
            expected="bubblewrap that can create namespaces",
            seen=why_not(),
            hint=f"{host.install_command([BWRAP])}; --no-jail builds it without one",
        )
    return list(command)


def confines() -> bool:
    """Return whether builds run in a jail: it is not turned off, and this host supports one."""
    return not os.environ.get(OFF) and why_not() is None


@functools.cache
def why_not() -> str | None:
    """Return why this host cannot jail a process, None if it can; the result is cached."""
    if host.which(BWRAP) is None or host.which(PRLIMIT) is None:
        return f"no {BWRAP} or no {PRLIMIT}"
    done = subprocess.run(Jail(()).wrap(["true"]), capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _twice(path: Path) -> tuple[str, str]:
    real = os.path.realpath(path)
    return real, os.fspath(path)


def _private() -> list[str]:
    return [
        name
        for name in os.environ
        if name.startswith(PRIVATE) or any(word in name.upper() for word in SECRET)
    ]
