"""A command in a guest, connected to this process's streams or to its terminal."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Protocol

from vfio_lab.machine.ssh import Terminal

READ_BYTES = 1 << 16
POLL_S = 0.02
STDIN, STDOUT, STDERR = 0, 1, 2


class Remote(Protocol):
    """The interface of a running command's channel that this module uses; paramiko has one."""

    status_event: threading.Event
    eof_received: int
    closed: bool

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there is output."""

    def recv_ready(self) -> bool:
        """Whether there is output."""

    def recv_stderr_ready(self) -> bool:
        """Whether there is output on stderr."""

    def recv(self, nbytes: int, /) -> bytes:
        """Return output."""

    def recv_stderr(self, nbytes: int, /) -> bytes:
        """Return output of stderr."""

    def send_ready(self) -> bool:
        """Whether `send` would not block."""

    def send(self, data: bytes, /) -> int:
        """Send input and return how many bytes were accepted."""

    def shutdown_write(self) -> None:
        """Signal the end of the input."""

    def exit_status_ready(self) -> bool:
        """Whether the command has ended."""

    def recv_exit_status(self) -> int:
        """Return the exit code, -1 if the connection broke first."""

    def resize_pty(self, width: int, height: int) -> None:
        """Set the size of the remote terminal, in characters."""


def streams(remote: Remote, stdin: int = STDIN) -> int | None:
    """Connect this process's streams to a command until the command ends.

    Args:
        remote: the running command.
        stdin: the descriptor to read the command's input from.

    Returns:
        The command's exit code; None if the connection broke before it ended.
    """
    return _Relay(remote, stdin).run()


def terminal(remote: Remote) -> int | None:
    """Connect this process's terminal to a command until it ends; forward keys and size changes.

    Returns:
        The command's exit code; None if the connection broke before it ended.
    """
    with _resizes() as resized, _raw(STDIN):
        return _Relay(remote, STDIN, resized).run()


class _Relay:
    """Copies data in both directions; neither direction blocks the other."""

    def __init__(self, remote: Remote, stdin: int, resized: int | None = None) -> None:
        self.remote = remote
        self.stdin: int | None = stdin
        self.resized = resized
        self.unsent = b""

    def run(self) -> int | None:
        # Unlike epoll, select accepts regular files, which are always ready.
        with selectors.SelectSelector() as selector:
            selector.register(self.remote.fileno(), selectors.EVENT_READ)
            if self.resized is not None:
                selector.register(self.resized, selectors.EVENT_READ)
            if self.stdin is not None:
                selector.register(self.stdin, selectors.EVENT_READ)
            while not self._ended:
                self._turn(selector)
        self._output()
        code = self.remote.recv_exit_status()
        return None if code < 0 else code

    @property
    def _ended(self) -> bool:
        remote = self.remote
        return remote.closed or (remote.exit_status_ready() and bool(remote.eof_received))

    def _turn(self, selector: selectors.BaseSelector) -> None:
        if self.remote.eof_received:  # the descriptor stays readable from now on
            self.remote.status_event.wait(POLL_S)
        ready = {key.fd for key, _ in selector.select(POLL_S if self.unsent else None)}
        self._output()
        if self.resized in ready:
            os.read(self.resized or 0, READ_BYTES)
            now = Terminal.current()
            self.remote.resize_pty(now.columns, now.rows)
        if self.stdin in ready and not self.unsent:
            self._input(selector)
        if self.unsent and self.remote.send_ready():
            with contextlib.suppress(
                OSError
            ):  # the command closed its stdin; its exit code follows
                self.unsent = self.unsent[self.remote.send(self.unsent) :]

    def _input(self, selector: selectors.BaseSelector) -> None:
        if self.stdin is None:
            return
        self.unsent = os.read(self.stdin, READ_BYTES)
        if not self.unsent:
            selector.unregister(self.stdin)
            self.stdin = None
            with contextlib.suppress(OSError):
                self.remote.shutdown_write()

    def _output(self) -> None:
        while self.remote.recv_ready():
            _write(STDOUT, self.remote.recv(READ_BYTES))
        while self.remote.recv_stderr_ready():
            _write(STDERR, self.remote.recv_stderr(READ_BYTES))


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Put a terminal into raw mode while the body runs."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizes() -> Iterator[int]:
    """Yield a descriptor that becomes readable when the terminal changes its size."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    handler = signal.signal(signal.SIGWINCH, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGWINCH, handler)
        os.close(reader)
        os.close(writer)
