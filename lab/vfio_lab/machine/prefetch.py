"""The next scenario's guest, cloned while the one before it runs.

Of a short scenario nearly half is the wait for its clone, and a guest that resets a device sleeps:
the next clone starts in the gaps. It is as pristine as one that was waited for.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.machine.guest import BootSpec, Guest


@dataclass(frozen=True)
class PendingClone:
    """A guest that is not awake yet, maybe.

    Args:
        guest: launched; QEMU dies with the thread that starts it, so that was the main one.
        awake: done when it is.
    """

    guest: Guest
    awake: Future[None]

    def discard(self) -> None:
        """Throw the guest away, and its folder: no scenario had it."""
        self.guest.qemu.kill()
        self.awake.exception()
        self.guest.close()
        shutil.rmtree(self.guest.folder, ignore_errors=True)


class ClonePrefetcher:
    """At most one guest that is cloned for a scenario to come: `coming`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clone-prefetch")
        self.coming: PendingClone | None = None

    def start(self, name: str, template: BootSpec, folder: Path, *, keepable: bool) -> None:
        """Begin to clone a guest; one that was not taken is thrown away.

        Args:
            name: what the guest is called.
            template: what it is cloned from.
            folder: its evidence folder.
            keepable: whether it may outlive the run.
        """
        self.discard()
        guest = Guest.launch(name, template, folder, keepable=keepable)
        self.coming = PendingClone(guest, self._thread.submit(guest.wake))

    def take(self, name: str, machine: BootSpec) -> Guest | None:
        """Return the guest that was cloned for this, once it is awake; throw any other away.

        Args:
            name: what the guest must be called.
            machine: what it must have been started from.

        Raises:
            BootError: it did not wake.
        """
        if self.coming is None:
            return None
        guest = self.coming.guest
        if (guest.name, guest.machine) != (name, machine):
            self.discard()
            return None
        coming, self.coming = self.coming, None
        coming.awake.result()
        return coming.guest

    def discard(self) -> None:
        """Throw away the guest that was not taken, if there is one."""
        if self.coming is not None:
            self.coming.discard()
            self.coming = None
