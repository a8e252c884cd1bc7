"""Eventfds: vfio signals them on interrupts, and users signal them to trigger actions."""

from __future__ import annotations

import copy
import struct
from collections.abc import Sequence
from typing import Self

from vfio_lab.client.call import Buffer
from vfio_lab.client.passing import pass_descriptor
from vfio_lab.client.user import CALL_TIMEOUT_S, User
from vfio_lab.uapi.syscalls import POLLIN

PROMPTLY_S = 10.0
COUNT_BYTES = 8
POLLFD = "<ihh"


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

    def passed_to(self, user: User) -> Self:
        """Pass it to another user (SCM_RIGHTS) and return it as that user has it."""
        twin = copy.copy(self)
        twin.fd = pass_descriptor(self.user, self.fd, user)
        twin.user = user
        return twin


def wait_any(eventfds: Sequence[Eventfd], timeout_s: float = PROMPTLY_S) -> list[int]:
    """Wait until any of a user's eventfds is signalled; return the indexes of those that are.

    Their counts are left as they are. Nothing is returned if none was signalled in time.

    Args:
        eventfds: eventfds of one user.
        timeout_s: how long to wait.
    """
    polled = [struct.pack(POLLFD, each.fd, POLLIN, 0) for each in eventfds]
    room, size = Buffer(b"".join(polled), out=True), struct.calcsize(POLLFD)
    waiting = eventfds[0].user.start("poll", room, len(polled), int(timeout_s * 1000))
    (seen,) = waiting.wait(timeout_s + CALL_TIMEOUT_S).out
    return [n for n in range(len(polled)) if struct.unpack_from(POLLFD, seen, n * size)[2]]
