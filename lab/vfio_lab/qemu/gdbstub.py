"""A client of QEMU's gdbstub: breakpoints, registers and memory of a guest that stands still.

Only what the lab needs of GDB's remote serial protocol. The guest runs only while a resuming
command waits for its answer.

Source: QEMU, gdbstub/gdbstub.c, gdbstub/system.c, target/i386/gdbstub.c and
target/arm/gdbstub64.c.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vfio_lab.arch import AARCH64, X86_64, Architecture
from vfio_lab.errors import GuestLost
from vfio_lab.util.deadline import Deadline

ANSWER_TIMEOUT_S = 20.0
INTERRUPT = b"\x03"
POINTER, POINTER_BYTES = "<Q", 8


@dataclass(frozen=True)
class Convention:
    """How functions of the kernel are called on an architecture.

    Args:
        names: the registers in the order in which QEMU numbers them.
        arguments: those that have a function's first arguments.
        clobbered: those that a called function may change.
        stack: the stack pointer.
        counter: the program counter.
        link: the register that has the return address, empty if it is on the stack.
    """

    names: tuple[str, ...]
    arguments: tuple[str, ...]
    clobbered: tuple[str, ...]
    stack: str
    counter: str
    link: str = ""


LEGACY = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
GENERAL = tuple(f"x{number}" for number in range(31))
CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        X86_64.name: Convention(
            names=(*LEGACY, *(f"r{number}" for number in range(8, 16)), "rip"),
            arguments=("rdi", "rsi", "rdx", "rcx"),
            clobbered=("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"),
            stack="rsp",
            counter="rip",
        ),
        AARCH64.name: Convention(
            names=(*GENERAL, "sp", "pc"),
            arguments=GENERAL[:4],
            clobbered=(*GENERAL[:19], "x30"),
            stack="sp",
            counter="pc",
            link="x30",
        ),
    }
)


@dataclass(frozen=True)
class Halt:
    """Why the guest stands still.

    Args:
        vcpu: the vCPU, as the gdbstub names it.
        asked: whether `interrupt` stopped it, not a breakpoint.
    """

    vcpu: str
    asked: bool


@dataclass(frozen=True)
class Registers:
    """The registers of a vCPU in the kernel.

    Args:
        general: by name.
        convention: what they are used for.
    """

    general: Mapping[str, int]
    convention: Convention

    def __getitem__(self, name: str) -> int:
        """Return a general register."""
        return self.general[name]

    @property
    def counter(self) -> int:
        """The program counter."""
        return self[self.convention.counter]

    @property
    def stack(self) -> int:
        """The stack pointer."""
        return self[self.convention.stack]

    def argument(self, index: int) -> int:
        """Return an argument of the function that is being entered, the first one for 0."""
        return self[self.convention.arguments[index]]


class Gdbstub:
    """A connection to a gdbstub, which stops the guest when it is made.

    Args:
        sock: the connected socket.
        guest: the guest's name, for errors.
        architecture: the guest's.
    """

    def __init__(
        self, sock: socket.socket, guest: str, architecture: Architecture = X86_64
    ) -> None:
        self.sock = sock
        self.guest = guest
        self.convention = CONVENTIONS[architecture.name]
        self._received = b""
        self.ask("?")

    def ask(self, command: str) -> str:
        """Send a command to a guest that stands still, and return the answer.

        Raises:
            GuestLost: QEMU is gone.
        """
        self._send(command)
        answer = self._packet(ANSWER_TIMEOUT_S)
        while answer is not None and command != "?" and _is_stop(answer):
            answer = self._packet(ANSWER_TIMEOUT_S)  # QEMU repeats why the guest stands still
        return self._alive(answer)

    def resume(self) -> None:
        """Let the guest run."""
        self._send("vCont;c")

    def step(self, vcpu: str) -> None:
        """Let one vCPU execute one instruction while the others stand still."""
        self._send(f"vCont;s:{vcpu}")
        self._alive(self._packet(ANSWER_TIMEOUT_S))

    def interrupt(self) -> None:
        """Ask for a stop, which `await_stop` returns."""
        self.sock.sendall(INTERRUPT)

    def await_stop(self, wake: socket.socket | None = None) -> Halt | None:
        """Return the next stop of a guest that runs, None if `wake` can be read before.

        Raises:
            GuestLost: QEMU is gone.
        """
        watched = [self.sock, *([wake] if wake else [])]
        while (packet := self._whole_packet()) is None:
            ready, _, _ = select.select(watched, [], [])
            if self.sock not in ready:
                return None
            self._receive()
        fields = dict(part.partition(":")[::2] for part in packet[3:].split(";"))
        return Halt(fields.get("thread", "01"), asked=packet[1:3] == "02")

    def insert(self, address: int) -> None:
        """Set a breakpoint."""
        self.ask(f"Z1,{address:x},1")

    def remove(self, address: int) -> None:
        """Remove a breakpoint."""
        self.ask(f"z1,{address:x},1")

    def registers(self, vcpu: str) -> Registers:
        """Return the registers of a vCPU, which becomes the one that `set` writes."""
        self.ask(f"Hg{vcpu}")
        names, data = self.convention.names, bytes.fromhex(self.ask("g"))
        values = struct.unpack_from(f"<{len(names)}Q", data)
        return Registers(dict(zip(names, values, strict=True)), self.convention)

    def set(self, name: str, value: int) -> None:
        """Write a register of the vCPU whose registers were read last."""
        number = self.convention.names.index(name)
        self.ask(f"P{number:x}={struct.pack(POINTER, value).hex()}")

    def caller(self, entry: Registers) -> int:
        """Return the address to which a function returns that is being entered."""
        link = self.convention.link
        return entry[link] if link else self.word(entry.stack)

    def call(self, entry: Registers, function: int, argument: int) -> None:
        """Let the vCPU whose registers were read last call another function before it goes on.

        Args:
            entry: its registers.
            function: the other function.
            argument: its only argument.
        """
        convention = self.convention
        if convention.link:
            self.set(convention.link, entry.counter)
        else:
            self.set_word(entry.stack - POINTER_BYTES, entry.counter)
            self.set(convention.stack, entry.stack - POINTER_BYTES)
        self.set(convention.arguments[0], argument)
        self.set(convention.counter, function)

    def restore(self, entry: Registers) -> None:
        """Undo what functions changed that the vCPU called, if its registers were read last."""
        for name in self.convention.clobbered:
            self.set(name, entry[name])

    def word(self, address: int) -> int:
        """Return eight bytes of memory as a number."""
        (value,) = struct.unpack(POINTER, bytes.fromhex(self.ask(f"m{address:x},8")))
        return int(value)

    def set_word(self, address: int, value: int) -> None:
        """Write eight bytes of memory."""
        self.ask(f"M{address:x},8:{struct.pack(POINTER, value).hex()}")

    def close(self) -> None:
        """Let the guest run without a debugger."""
        try:
            self.ask("D")
        except (GuestLost, OSError):
            pass  # it is gone already
        finally:
            self.sock.close()

    def _send(self, command: str) -> None:
        data = command.encode()
        self.sock.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))

    def _packet(self, timeout_s: float) -> str | None:
        deadline = Deadline.after(timeout_s)
        while (packet := self._whole_packet()) is None:
            ready, _, _ = select.select([self.sock], [], [], deadline.slice_s)
            if ready:
                self._receive()
            elif deadline.passed:
                return None
        return packet

    def _receive(self) -> None:
        data = self.sock.recv(1 << 16)
        if not data:
            self._alive(None)
        self._received += data

    def _whole_packet(self) -> str | None:
        """Take a packet from what was received, and acknowledge it."""
        start = self._received.find(b"$")
        end = self._received.find(b"#", start)
        if start < 0 or end < 0 or len(self._received) < end + 3:
            return None
        packet = self._received[start + 1 : end]
        self._received = self._received[end + 3 :]
        self.sock.sendall(b"+")
        return packet.decode()

    def _alive(self, answer: str | None) -> str:
        if answer is None:
            raise GuestLost(
                "QEMU's gdbstub does not answer",
                guest=self.guest,
                expected=f"an answer within {ANSWER_TIMEOUT_S:g} s",
                seen="none",
            )
        return answer


def _is_stop(packet: str) -> bool:
    return packet[:1] in ("T", "S")
