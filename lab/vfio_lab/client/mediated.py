"""A mediated device of a guest, which the guest's administrator makes and removes in sysfs."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from vfio_lab.client.user import PendingCall, User

MEDIATED = "/sys/bus/mdev/devices"


@dataclass(frozen=True)
class MediatedType:
    """A type of mediated devices that a parent device offers.

    Args:
        driver: the parent's driver, such as `mtty`, which is the parent's class and name too.
        name: the type's name after the driver's, such as `1`.
        root: the administrator, which reads and writes its attributes.
    """

    driver: str
    name: str
    root: User

    @property
    def path(self) -> str:
        """Its folder in sysfs."""
        parent = f"/sys/class/{self.driver}/{self.driver}"
        return f"{parent}/mdev_supported_types/{self.driver}-{self.name}"

    @property
    def available(self) -> int:
        """How many devices can still be made."""
        return int(self.root.read_file(f"{self.path}/available_instances"))

    def create(self, name: uuid.UUID | str) -> MediatedDevice:
        """Make a device.

        Args:
            name: its UUID, or text to write in its place.

        Raises:
            Refusal: the kernel refuses the write.
        """
        self.root.write_file(f"{self.path}/create", str(name))
        return MediatedDevice(str(name), self.root)


@dataclass(frozen=True)
class MediatedDevice:
    """One mediated device; every property is read from the guest on each access.

    Args:
        name: its UUID as text.
        root: the administrator, which reads and writes its attributes.
    """

    name: str
    root: User

    def __str__(self) -> str:
        """Return the UUID."""
        return self.name

    @property
    def path(self) -> str:
        """Its folder in sysfs."""
        return f"{MEDIATED}/{self.name}"

    @property
    def present(self) -> bool:
        """Whether it exists."""
        return self.root.exists(self.path)

    def remove(self) -> None:
        """Remove it.

        Raises:
            Refusal: the kernel refuses the write.
        """
        self.root.write_file(f"{self.path}/remove", "1")

    def start_remove(self, by: User) -> PendingCall:
        """Start to remove it, as the user `by`, without waiting for the end."""
        return by.start_write_file(f"{self.path}/remove", "1")
