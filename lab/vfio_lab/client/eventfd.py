"""Eventfds: vfio signals them on interrupts, and users signal them to trigger actions."""

from __future__ import annotations

from vfio_lab.client.user import User

PROMPTLY_S = 10.0
COUNT_BYTES = 8


class Eventfd:
    """An eventfd of a user.

    Args:
        user: the user that creates it.
    """

    def __init__(self, user: User) -> None:
        self.user = user
        self.fd = user.eventfd()

    def __repr__(self) -> str:
        """Return `Eventfd(fd 5 of user)`."""
        return f"{type(self).__name__}(fd {self.fd} of {self.user.name})"

    def wait(self) -> int:
        """Wait for a signal and return how many there were, taking them; 0 if none came."""
        return self.user.await_event(self.fd, PROMPTLY_S)

    def count(self) -> int:
        """Return how many signals there were up to now, taking them."""
        return self.user.await_event(self.fd, 0)

    def ring(self, times: int = 1) -> None:
        """Signal it."""
        self.user.write(self.fd, times.to_bytes(COUNT_BYTES, "little"))

    def close(self) -> None:
        """Close it."""
        self.user.close(self.fd)
