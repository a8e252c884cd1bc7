"""A file descriptor of a user, and ioctls on it with structs as arguments."""

from __future__ import annotations

import copy
import ctypes
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from vfio_lab.client.call import Buffer, Reply
from vfio_lab.client.passing import pass_descriptor
from vfio_lab.client.user import User
from vfio_lab.uapi.layout import describe
from vfio_lab.uapi.names import Kind, ioctl_name

S = TypeVar("S", bound=ctypes.Structure)
CLOSED = -1
# Enough for every correct argsz; an oversized argsz does not make the buffer larger.
LARGEST_ARGUMENT_BYTES = 1 << 16


class Handle:
    """An open file of a user.

    Args:
        user: the process that owns the descriptor.
        fd: the descriptor.
        label: the name of the opened file, for messages.
    """

    kind: ClassVar[Kind]

    def __init__(self, user: User, fd: int, label: str) -> None:
        """Wrap a descriptor that is already open."""
        self.user = user
        self.fd = fd
        self.label = label

    def __repr__(self) -> str:
        """Return the label, the user and the descriptor."""
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
        """Close the descriptor; idempotent."""
        if self.fd != CLOSED:
            fd, self.fd = self.fd, CLOSED
            self.user.close(fd)

    def dup(self) -> Self:
        """Duplicate the descriptor; both refer to the same open file description."""
        return self._under(self.user, self.user.dup(self.fd))

    def inherited_by(self, child: User) -> Self:
        """Return this descriptor as inherited by a forked child of the user."""
        return self._under(child, self.fd)

    def passed_to(self, user: User) -> Self:
        """Pass the descriptor to another user (SCM_RIGHTS) and return it as that user has it."""
        return self._under(user, pass_descriptor(self.user, self.fd, user))

    def ioctl(self, request: int, arg: int | Buffer = 0, *, about: str = "") -> Reply:
        """Make an ioctl; the transcript shows its name on this kind of file.

        Args:
            request: the ioctl's number.
            arg: a number, an address or a buffer.
            about: the argument in words, for the transcript.

        Raises:
            Refusal: the kernel refuses the call.
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
        """Make an ioctl whose argument is a struct, and return the struct after the call.

        Args:
            request: the ioctl's number.
            fixed: the struct; its first field is the size passed to the kernel.
            tail: bytes that follow the struct in memory.
            pointer: the address to pass instead; the arguments are returned unchanged then.
            pointers: (offset, buffer whose address is stored there), see `Buffer`.

        Raises:
            Refusal: the kernel refuses the call.
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
