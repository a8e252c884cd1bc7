"""A user's system call as values: its arguments, its reply, its refusal."""

from __future__ import annotations

import errno as errno_module
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vfio_lab.errors import UsageError

POINTER_BYTES = 8
# Python has only the other names of these errnos.
KERNEL_NAMES = {errno_module.EOPNOTSUPP: "EOPNOTSUPP", errno_module.EDEADLK: "EDEADLK"}


class Refusal(OSError):
    """The kernel under test refused a user's system call.

    Args:
        number: the errno.
        user: name of the user that called.
        call: system call or ioctl, by its kernel name.
        arguments: the arguments in words.
        out: what the refused call left in its `out` buffers.
    """

    def __init__(
        self, number: int, user: str, call: str, arguments: str, out: tuple[bytes, ...] = ()
    ) -> None:
        super().__init__(number, os.strerror(number))
        self.user = user
        self.call = call
        self.arguments = arguments
        self.out = out

    def __str__(self) -> str:
        """Return `pf_user: VFIO_SET_IOMMU(3): EINVAL (Invalid argument)`."""
        return (
            f"{self.user}: {self.call}({self.arguments}): {name_of(self.errno)} ({self.strerror})"
        )


def command_line(argv: Sequence[object]) -> str:
    """Return a command as one line.

    Raises:
        UsageError: there is no word, or one is no string.
    """
    if not argv or not all(isinstance(word, str) for word in argv):
        raise UsageError(
            "a command must be given as separate strings",
            expected='strings, such as run("lspci", "-s", "00:01.0")',
            seen=repr(argv),
            hint="unpack a list: run(*words); convert anything else: str(pf)",
        )
    return " ".join(map(str, argv))


def shortened(text: str, width: int = 60) -> str:
    """Return a text cut to `width` characters."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def name_of(number: int | None) -> str:
    """Return the kernel's name of an errno."""
    if number in KERNEL_NAMES:
        return KERNEL_NAMES[number]
    return errno_module.errorcode.get(number or 0, f"errno {number}")


@dataclass(frozen=True)
class Buffer:
    """Memory for a system call.

    Args:
        data: its content before the call.
        out: whether its content after the call is wanted.
        pointers: (offset in `data`, buffer whose address is stored there as u64).
    """

    data: bytes
    out: bool = False
    pointers: tuple[tuple[int, Buffer], ...] = ()

    @classmethod
    def text(cls, word: str) -> Buffer:
        """Return a string ended by NUL."""
        return cls(os.fsencode(word) + b"\0")

    @classmethod
    def strings(cls, words: Sequence[str]) -> Buffer:
        """Return an array of pointers to strings, ended by NULL, as execve(2) takes it."""
        texts = [cls.text(word) for word in words]
        pointers = tuple((POINTER_BYTES * index, text) for index, text in enumerate(texts))
        return cls(bytes(POINTER_BYTES * (len(texts) + 1)), pointers=pointers)

    def __repr__(self) -> str:
        """Return its size and its first bytes."""
        return f"{type(self).__name__}({len(self.data)} bytes: {shortened(self.data.hex())})"

    def wire(self) -> dict[str, Any]:
        """Return it as the agent's protocol encodes it."""
        return {
            "data": self.data.hex(),
            "out": self.out,
            "pointers": [[offset, inner.wire()] for offset, inner in self.pointers],
        }


@dataclass(frozen=True)
class Reply:
    """What a system call returned.

    Args:
        value: its return value.
        out: content of the `out` buffers, outer before inner, in order of the arguments.
    """

    value: int
    out: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class CommandResult:
    """The result of a command in the guest."""

    argv: tuple[str, ...]
    exit: int
    stdout: str
    stderr: str

    def __repr__(self) -> str:
        """Return the command, its exit code and the last line of its output."""
        *_, last = (self.stdout + self.stderr).strip().rpartition("\n")
        return f"{shortened(' '.join(self.argv), 40)}: exit {self.exit}: {shortened(last, 60)!r}"
