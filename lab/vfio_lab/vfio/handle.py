"""A file descriptor of a user, and how structs travel through it."""

from __future__ import annotations

import copy
import ctypes
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from vfio_lab.client.call import Buffer, Reply
from vfio_lab.client.user import User
from vfio_lab.uapi.layout import describe
from vfio_lab.uapi.names import Kind, ioctl_name

S = TypeVar("S", bound=ctypes.Structure)
CLOSED = -1
# Enough for any honest argsz; a lying one does not get the memory it asks for.
LARGEST_ARGUMENT_BYTES = 1 << 16


class Handle:
    """An open file of a user.

    Args:
        user: the process that owns the descriptor.
        fd: the descriptor.
        label: what was opened, for messages.
    """

    kind: ClassVar[Kind]

    def __init__(self, user: User, fd: int, label: str) -> None:
        """Take over a descriptor that is already open."""
        self.user = user
        self.fd = fd
        self.label = label

    def __repr__(self) -> str:
        """Return what it is, whose, and under which descriptor."""
        state = "closed" if self.fd == CLOSED else f"fd {self.fd}"
        return f"{type(self).__name__}({self.label} of {self.user.name}, {state})"

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the descriptor; closing again does nothing."""
        if self.fd != CLOSED:
            fd, self.fd = self.fd, CLOSED
            self.user.close(fd)

    def dup(self) -> Self:
        """Duplicate the descriptor: one open file description under two numbers."""
        return self._under(self.user, self.user.dup(self.fd))

    def inherited_by(self, child: User) -> Self:
        """Return the same descriptor as a forked child of the user holds it."""
        return self._under(child, self.fd)

    def ioctl(self, request: int, arg: int | Buffer = 0, *, about: str = "") -> Reply:
        """Make any ioctl, recorded under the name it has on this kind of file.

        Args:
            request: its number.
            arg: a number, an address or a buffer.
            about: the argument in words.

        Raises:
            Refusal: the kernel says no.
        """
        words = f"{self.fd}, {about}" if about else f"{self.fd}"
        return self.user.ioctl(
            self.fd, request, arg, name=ioctl_name(self.kind, request), about=words
        )

    def exchange(
        self,
        request: int,
        fixed: S,
        tail: bytes = b"",
        *,
        pointer: int | None = None,
        pointers: tuple[tuple[int, Buffer], ...] = (),
    ) -> tuple[S, bytes]:
        """Make an ioctl whose argument is a struct, and return what the kernel made of it.

        Args:
            request: the ioctl's number.
            fixed: the struct; its first field is its size as told to the kernel.
            tail: what follows it in memory.
            pointer: the address to pass instead, whatever is there; nothing comes back then.
            pointers: (offset, buffer whose address goes there), see `Buffer`.

        Raises:
            Refusal: the kernel says no.
        """
        about = describe(fixed) + (f" + {tail.hex()}" if tail else "")
        if pointer is not None:
            self.ioctl(request, pointer, about=f"{pointer:#x}: {about}")
            return fixed, tail
        raw = bytes(fixed) + tail
        claimed = int(getattr(fixed, fixed._fields_[0][0]))
        raw += bytes(max(0, min(claimed, LARGEST_ARGUMENT_BYTES) - len(raw)))
        reply = self.ioctl(request, Buffer(raw, out=True, pointers=pointers), about=about)
        seen = reply.out[0]
        size = ctypes.sizeof(fixed)
        return type(fixed).from_buffer_copy(seen[:size]), seen[size:]

    def _under(self, user: User, fd: int) -> Self:
        twin = copy.copy(self)
        twin.user = user
        twin.fd = fd
        return twin


def descriptor(of: Handle | int) -> int:
    """Return the descriptor of a handle, or the number itself."""
    return of.fd if isinstance(of, Handle) else of
