"""The next scenario's guest, cloned while the one before it runs.

A short scenario spends nearly half of its time on the wait for its clone, while a guest that resets
a device sleeps. So the next clone starts during the scenario before it. It is as pristine as any.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.machine.guest import BootSpec, Guest


@dataclass(frozen=True)
class PendingClone:
    """A guest that has been launched and may not be awake yet.

    Args:
        guest: launched by the main thread, because QEMU dies with the thread that starts it.
        awake: done when the guest is awake.
    """

    guest: Guest
    awake: Future[None]

    def discard(self) -> None:
        """Throw away the guest and its folder, since no scenario has used it."""
        self.guest.qemu.kill()
        self.awake.exception()
        self.guest.close()
        shutil.rmtree(self.guest.folder, ignore_errors=True)


class ClonePrefetcher:
    """Clones at most one guest, `coming`, for the next scenario."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clone-prefetch")
        self.coming: PendingClone | None = None

    def start(self, name: str, template: BootSpec, folder: Path, *, keepable: bool) -> None:
        """Begin to clone a guest; throw away an earlier one that was not taken.

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
        """Return the guest that was cloned for `name` once it is awake; throw any other away.

        Args:
            name: what the guest must be called.
            machine: what it must have been started from.

        Raises:
            BootError: the guest did not wake.
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
