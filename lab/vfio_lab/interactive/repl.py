"""A Python prompt on a guest, with the names of scenarios, so that their lines can be pasted."""

from __future__ import annotations

import atexit
import code
import contextlib
import errno
import readline
import rlcompleter
import sys
import uuid
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from vfio_lab import vfio
from vfio_lab.client.call import Refusal, name_of
from vfio_lab.errors import LabError
from vfio_lab.machine.guest import Guest
from vfio_lab.uapi import (
    iommufd,
    pci_regs,
    syscalls,
    vfio_type1,
)
from vfio_lab.uapi import vfio as uapi
from vfio_lab.util.cache import Cache

HISTORY = "python-history"
HISTORY_LINES = 1000
BANNER = """\
guest, root, pf_user, vf_user and every function by its role are there, the classes of
vfio_lab.vfio, the numbers of the uAPI and of errno, TOKEN and OTHER (tokens), and refused().
For example:
    pf = pf0.bind_with_sriov(); vf, other_vf = pf.enable_vfs(2)
    device = pf_user.open(pf, TOKEN)
    with refused(EACCES): vf_user.open(vf)"""


def interact(guest: Guest, cache: Cache) -> None:
    """Run a Python prompt on a guest, for the user at the terminal or a script on stdin.

    Args:
        guest: the guest.
        cache: the cache that keeps the history between guests.
    """
    names = namespace(guest)
    if sys.stdin.isatty():
        _history(cache)
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    Console(names).interact(banner=BANNER, exitmsg="")


def namespace(guest: Guest) -> dict[str, Any]:
    """Return the objects that the prompt offers, by name."""
    roles = [endpoint.role for endpoint in guest.machine.topology.endpoints]
    functions = {role: guest.function(role) for role in roles}
    constants = (errno, pci_regs, syscalls, vfio_type1, iommufd, uapi)
    return {
        **{name: value for module in constants for name, value in _public(module).items()},
        **{name: getattr(vfio, name) for name in vfio.__all__},
        **functions,
        "guest": guest,
        "root": guest.root,
        "pf_user": guest.user("pf_user"),
        "vf_user": guest.user("vf_user"),
        "TOKEN": uuid.uuid4(),
        "OTHER": uuid.uuid4(),
        "Refusal": Refusal,
        "refused": refused,
    }


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """Expect the kernel to refuse the block's call with this errno, and show its refusal.

    Raises:
        Refusal: the kernel refused the call with another errno.
        AssertionError: the kernel did not refuse the call.
    """
    try:
        yield
    except Refusal as refusal:
        if refusal.errno != number:
            raise
        print(refusal)  # noqa: T201 - the prompt's answer
    else:
        raise AssertionError(f"expected {name_of(number)}, but nothing was refused")


class Console(code.InteractiveConsole):
    """A prompt that shows refusals and the lab's own errors without a traceback."""

    def showtraceback(self) -> None:
        """Print the exception."""
        error = sys.exception()
        if isinstance(error, Refusal | LabError):
            self.write(f"{type(error).__name__}: {error}\n")
        else:
            super().showtraceback()


def _public(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _history(cache: Cache) -> None:
    path = cache.open().root / HISTORY
    path.touch(mode=0o600)
    readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES)
    atexit.register(readline.write_history_file, path)
