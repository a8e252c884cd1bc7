"""Users: the processes of a guest that own file descriptors, a uid and capabilities."""

from __future__ import annotations

import contextlib
import errno as errno_module
import signal as signals
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from vfio_lab.client.answer import Answer
from vfio_lab.client.call import Buffer, CommandResult, Refusal, Reply, command_line
from vfio_lab.client.channel import ROUTER, Channel, Pending
from vfio_lab.client.spelling import spell
from vfio_lab.client.transcript import Entry
from vfio_lab.errors import DeadlineExceeded
from vfio_lab.uapi.syscalls import (
    AT_FDCWD,
    CAPABILITY_VERSION_3,
    EFD_CLOEXEC,
    EFD_NONBLOCK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    O_CLOEXEC,
    O_RDWR,
    POLLIN,
    PROT_READ,
    PROT_WRITE,
)
from vfio_lab.util.deadline import Deadline, stretched

CAPABILITY_HEADER = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)  # of the caller itself
WORD_BITS = 32
CAPABILITY_SETS = "<6I"  # effective, permitted, inheritable; low words, high words
CALL_TIMEOUT_S = 20.0
RUN_TIMEOUT_S = 60.0
LARGEST_FILE_BYTES = 1 << 22


@dataclass
class PendingCall:
    """A system call that a user has entered and not yet left."""

    user: User
    pending: Pending
    entry: Entry

    def __repr__(self) -> str:
        """Return the call and its result, if it has returned."""
        self.entry.look()
        return repr(self.entry)

    @property
    def returned(self) -> bool:
        """Whether the call has returned."""
        return self.entry.ended is not None or self.pending.answered

    def wait(self, timeout_s: float = CALL_TIMEOUT_S) -> Reply:
        """Return the call's result; raises `Refusal` like the call itself."""
        return self.user.settle(self.entry, self.pending.wait(Deadline.after(timeout_s)))


@dataclass
class User:
    """A process in the guest; its methods are system calls made by that process.

    Every refusal is raised as `Refusal`; a call the agent could not make as `AgentError`.

    Args:
        channel: the agent.
        pid: the process.
        name: what transcripts call it.
        record: is called with each of the user's calls, as the call begins.
        latest: its latest call.
    """

    channel: Channel
    pid: int
    name: str
    record: Callable[[Entry], None] = field(default=lambda _entry: None)
    latest: Entry | None = field(default=None)

    def __repr__(self) -> str:
        """Return `User(pf_user, pid 97)`."""
        return f"{type(self).__name__}({self.name}, pid {self.pid})"

    def start(
        self, call: str, *args: int | Buffer, label: str = "", about: str = ""
    ) -> PendingCall:
        """Enter a system call without waiting for it to return.

        Args:
            call: its name, as in `vfio_lab.arch.Architecture.syscalls`.
            args: numbers and buffers.
            label: the name to record it under, e.g. that of the ioctl.
            about: the arguments in words; made from `args` when empty.

        Raises:
            UsageError: the table has no such system call.
        """
        number, spelled = spell(self.channel.architecture, call, args)
        wire = [arg if isinstance(arg, int) else arg.wire() for arg in spelled]
        words = about or ", ".join(_in_words(args))
        asked = {"number": number, "args": wire}
        return self._start("syscall", asked, label or call, words, syscall=call, given=args)

    def syscall(self, call: str, *args: int | Buffer, label: str = "", about: str = "") -> Reply:
        """Make a system call.

        Args:
            call: its name, as in `vfio_lab.arch.Architecture.syscalls`.
            args: numbers and buffers.
            label: the name to record it under, e.g. that of the ioctl.
            about: the arguments in words; made from `args` when empty.
        """
        return self.start(call, *args, label=label, about=about).wait()

    def ioctl(
        self, fd: int, request: int, arg: int | Buffer = 0, *, name: str, about: str = ""
    ) -> Reply:
        """Make an ioctl, recorded under its kernel `name`.

        Args:
            fd: the descriptor.
            request: the ioctl's number.
            arg: a number, an address or a buffer.
            name: the ioctl's kernel name, for the transcript.
            about: the arguments in words.
        """
        return self.syscall("ioctl", fd, request, arg, label=name, about=about)

    def open_path(self, path: str, flags: int = O_RDWR) -> int:
        """Open a file and return its descriptor."""
        return self.syscall(
            "openat", AT_FDCWD, Buffer.text(path), flags | O_CLOEXEC, 0, label="open", about=path
        ).value

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self.syscall("close", fd)

    def dup(self, fd: int) -> int:
        """Duplicate a descriptor."""
        return self.syscall("dup", fd).value

    def read(self, fd: int, size: int) -> bytes:
        """Read up to `size` bytes."""
        reply = self.syscall("read", fd, Buffer(bytes(size), out=True), size, about=f"{fd}, {size}")
        return reply.out[0][: reply.value]

    def write(self, fd: int, data: bytes) -> int:
        """Write and return how many bytes were taken."""
        about = f"{fd}, {data.hex()}"
        return self.syscall("write", fd, Buffer(data), len(data), about=about).value

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes at `offset`.

        Args:
            fd: the descriptor.
            size: how many bytes to ask for; fewer come back at the end of the file.
            offset: bytes from the start of the file.
        """
        about = f"{fd}, {size}, {offset:#x}"
        reply = self.syscall(
            "pread64", fd, Buffer(bytes(size), out=True), size, offset, about=about
        )
        return reply.out[0][: reply.value]

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Write at `offset` and return how many bytes were taken.

        Args:
            fd: the descriptor.
            data: what to write.
            offset: bytes from the start of the file.
        """
        about = f"{fd}, {data.hex()}, {offset:#x}"
        return self.syscall("pwrite64", fd, Buffer(data), len(data), offset, about=about).value

    def mmap(  # noqa: PLR0913 - the arguments of mmap(2)
        self,
        fd: int,
        size: int,
        offset: int = 0,
        *,
        protection: int = PROT_READ | PROT_WRITE,
        flags: int = MAP_SHARED,
        address: int | None = None,
    ) -> int:
        """Map a file and return the page-aligned address of the mapping.

        Args:
            fd: the descriptor.
            size: length in bytes; the kernel rounds it up to whole pages.
            offset: bytes from the start of the file, a multiple of the page size.
            protection: PROT_* flags.
            flags: MAP_* flags.
            address: where to map it, over what is there (MAP_FIXED); page-aligned.
        """
        fixed = 0 if address is None else MAP_FIXED
        where = (address or 0, size, protection, flags | fixed)
        return self.syscall("mmap", *where, fd, offset).value

    def allocate(self, size: int) -> int:
        """Map `size` bytes of fresh memory and return the page-aligned address."""
        flags = MAP_PRIVATE | MAP_ANONYMOUS
        return self.syscall("mmap", 0, size, PROT_READ | PROT_WRITE, flags, -1, 0).value

    def munmap(self, address: int, size: int) -> None:
        """Unmap memory."""
        self.syscall("munmap", address, size)

    def peek(self, address: int, size: int, width: int = 0) -> bytes:
        """Load bytes from the user's memory, also from a mapped BAR.

        Args:
            address: where to start; a multiple of `width`.
            size: how many bytes; a multiple of `width`.
            width: bytes loaded by each access: 1, 2, 4 or 8; 0 leaves it to the C library.
        """
        answer = self._ask("peek", f"{address:#x}", address=address, size=size, width=width)
        return bytes.fromhex(answer["data"])

    def poke(self, address: int, data: bytes, width: int = 0) -> None:
        """Store bytes to the user's memory, also to a mapped BAR.

        Args:
            address: where to start; a multiple of `width`.
            data: the bytes; their number is a multiple of `width`.
            width: bytes stored by each access: 1, 2, 4 or 8; 0 leaves it to the C library.
        """
        self._ask("poke", f"{address:#x}", address=address, data=data.hex(), width=width)

    def touch(self, address: int) -> signals.Signals | None:
        """Load a byte in a forked child; return the signal that killed it, None if it lived."""
        return self._ask("touch", f"{address:#x}", address=address).signal

    def eventfd(self) -> int:
        """Make an eventfd and return its descriptor."""
        return self.syscall("eventfd2", 0, EFD_NONBLOCK | EFD_CLOEXEC).value

    def await_event(self, fd: int, timeout_s: float) -> int:
        """Wait for an eventfd to be signalled and return its count, 0 if it never was."""
        poll = struct.pack("<ihh", fd, POLLIN, 0)
        waiting = self.start("poll", Buffer(poll, out=True), 1, int(timeout_s * 1000))
        ready = waiting.wait(timeout_s + CALL_TIMEOUT_S).value
        return int.from_bytes(self.read(fd, 8), "little") if ready else 0

    @contextlib.contextmanager
    def without(self, capability: int) -> Iterator[None]:
        """Act without a capability, by number, for a block; the user keeps the right to it."""
        room = Buffer(bytes(struct.calcsize(CAPABILITY_SETS)), out=True)
        (before,) = self.syscall("capget", Buffer(CAPABILITY_HEADER), room).out
        sets = list(struct.unpack(CAPABILITY_SETS, before))
        sets[0 if capability < WORD_BITS else 3] &= ~(1 << capability % WORD_BITS)
        self._set_capabilities(struct.pack(CAPABILITY_SETS, *sets))
        try:
            yield
        finally:
            self._set_capabilities(before)

    def fork(self) -> Self:
        """Fork: the child shares every open file description."""
        answer = self._ask("fork", "")
        return type(self)(self.channel, answer["value"], f"{self.name}'s child", self.record)

    def exec(self, *argv: str) -> PendingCall:
        """Make the process run another program, which closes every file that the lab opened.

        The user answers no more requests. Waiting for the call raises `Refusal` if the kernel
        refuses the program, and `UserGone`, with its exit code, when it has ended.

        Args:
            argv: the program's path, and its arguments.

        Raises:
            UsageError: a word of it is no string.
        """
        words = command_line(argv)
        arrays = Buffer.strings(argv), Buffer.strings(())
        return self.start("execve", Buffer.text(argv[0]), *arrays, about=words)

    def kill(self, signal: int = signals.SIGKILL, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Send a signal and wait until the process and everything it held are gone."""
        self.start_kill(signal).wait(Deadline.after(timeout_s))

    def start_kill(self, signal: int = signals.SIGKILL) -> Pending:
        """Send a signal without waiting for the process to end."""
        about = f"kill {self.name} (pid {self.pid})"
        pending = self.channel.start(ROUTER, "kill", about, pid=self.pid, signal=int(signal))
        now, name = pending.began, signals.Signals(signal).name
        entry = Entry(now, now, self.name, "kill", name, "sent", pid=self.pid, pending=pending)
        entry.options = {"signal": name}
        self.record(entry)
        return pending

    def read_file(self, path: str, size: int = LARGEST_FILE_BYTES) -> str:
        """Return a text file's content without the newlines at its end."""
        answer = self._ask("read_file", path, path=path, size=size)
        return bytes.fromhex(answer["data"]).decode(errors="replace").rstrip("\n")

    def write_file(self, path: str, text: str) -> None:
        """Write `text` to an existing file in one write, as the shell's echo does."""
        data = f"{text}\n".encode().hex()
        self._ask("write_file", f"{path}, {text}", path=path, data=data)

    def start_write_file(self, path: str, text: str) -> PendingCall:
        """Start a write to an existing file, as `write_file` does, without waiting for it."""
        data = f"{text}\n".encode().hex()
        return self._begin("write_file", f"{path}, {text}", path=path, data=data)

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link."""
        return str(self._ask("readlink", path, path=path)["text"])

    def listdir(self, path: str) -> list[str]:
        """Return a folder's names, sorted."""
        return sorted(self._ask("listdir", path, path=path)["names"])

    def exists(self, path: str) -> bool:
        """Whether a path can be looked up."""
        try:
            self.syscall("access", Buffer.text(path), 0, about=path)
        except Refusal as refusal:
            if refusal.errno not in (errno_module.ENOENT, errno_module.ENOTDIR):
                raise
            return False
        return True

    def run(
        self, *argv: str, timeout_s: float = RUN_TIMEOUT_S, last_words: Sequence[str] = ()
    ) -> CommandResult:
        """Run a command as this user and return its result, whatever its exit code.

        Args:
            argv: the command.
            timeout_s: how long it may take, in seconds, on a host that does nothing else.
            last_words: messages after which it never ends; printing one gets it killed within 2 s.

        Raises:
            UsageError: a word of it is no string.
            DeadlineExceeded: it did not end; the error has its output.
        """
        words, ms = command_line(argv), round(stretched(timeout_s) * 1000)
        call = self._begin("run", words, argv=argv, timeout_ms=ms, last_words=last_words)
        answer = call.pending.wait(Deadline.after(timeout_s + CALL_TIMEOUT_S))
        self.settle(call.entry, answer)
        done = CommandResult(argv, answer["value"], answer["stdout"], answer["stderr"])
        if answer["late"]:
            raise DeadlineExceeded(
                f"it did not end: {call.pending.about}",
                guest=self.channel.name,
                expected=f"its end within {timeout_s:g} s",
                tail=done.stdout + done.stderr,
                where=self.channel.log,
            )
        return done

    def settle(self, entry: Entry, answer: Answer) -> Reply:
        """Record an answer and return it as a reply, or raise it as a refusal."""
        entry.settle(answer)
        out = tuple(bytes.fromhex(part) for part in answer.get("out", ()))
        if answer["errno"]:
            raise Refusal(answer["errno"], self.name, entry.call, entry.arguments, out)
        return Reply(answer["value"], out)

    def _set_capabilities(self, sets: bytes) -> None:
        self.syscall("capset", Buffer(CAPABILITY_HEADER), Buffer(sets))

    def _ask(self, op: str, words: str, **args: object) -> Answer:
        call = self._begin(op, words, **args)
        answer = call.pending.wait(Deadline.after(CALL_TIMEOUT_S))
        self.settle(call.entry, answer)
        return answer

    def _begin(self, op: str, words: str, **args: object) -> PendingCall:
        return self._start(op, args, op, words, options=args)

    def _start(
        self, op: str, asked: Mapping[str, object], call: str, words: str, **known: Any
    ) -> PendingCall:
        about = f"{self.name}: {call}({words})"
        pending = self.channel.start(self.pid, op, about, **asked)
        entry = Entry(pending.began, None, self.name, call, words, pid=self.pid, **known)
        entry.pending = pending
        self.latest = entry
        self.record(entry)
        return PendingCall(self, pending, entry)


def _in_words(args: tuple[int | Buffer, ...]) -> Iterator[str]:
    for arg in args:
        yield f"{arg:#x}" if isinstance(arg, int) else arg.data[:64].hex()
