"""A user: a process of its own that performs system calls for the host, one at a time.

It knows no vfio. Requests carry a system call number and arguments; an argument is a number or
a buffer, and a buffer may hold pointers to others, so the host can build any ioctl there is,
the malformed ones too.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_KEEPCAPS = 8
LISTEN_S = 1.0
READ_BYTES = 1 << 16  # sysctl files allocate what is asked for
CAPABILITY_VERSION_3 = 0x20080522
SYS_CAPGET = 125
SYS_CAPSET = 126
FAIL_NTH = "/proc/thread-self/fail-nth"
NUMBER_BYTES = 16
POINTER_BYTES = 8
WIDTHS = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
Answer = dict[str, Any]
Memory = tuple[Any, int, bool]  # a ctypes buffer, its size, whether its content is wanted
Argument = int | dict[str, Any]
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def run(control: socket.socket, door: str | bytes) -> NoReturn:
    """Serve `control` until it closes; never returns to the caller's code."""
    keep = control.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 1024)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the router's would take our children's ends
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()
    User(control, door).serve()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even inside a system call."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def become(uid: int, drop: list[int]) -> None:
    """Take the uid and give up capabilities (numbers); a foreign uid keeps the others."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words, high words
    check("capget", libc.syscall(SYS_CAPGET, header, data))
    permitted = (data[1] | data[4] << 32) & ~sum(1 << number for number in drop)
    for number in drop:
        check("PR_CAPBSET_DROP", libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
    if uid:
        check("PR_SET_KEEPCAPS", libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if uid or drop:
        low, high = permitted & 0xFFFFFFFF, permitted >> 32
        data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
        check("capset", libc.syscall(SYS_CAPSET, header, data))
        die_with_parent()  # a change of credentials forgets it: kernel/cred.c, commit_creds()


def check(call: str, value: int) -> None:
    """Raise what a libc call left in errno."""
    if value:
        raise OSError(ctypes.get_errno(), call)


class User:
    """The loop of one user process."""

    def __init__(self, control: socket.socket, door: str | bytes) -> None:
        """Serve requests from the `control` socket; forked children knock at `door`."""
        self.control = control
        self.door = door
        self.children: set[int] = set()
        self.nth = 0
        self.starved = False

    def serve(self) -> NoReturn:
        """Answer until the router hangs up."""
        with self.control.makefile("rb") as requests:
            for line in requests:
                self.serve_one(json.loads(line))
        os._exit(0)

    def serve_one(self, request: dict[str, Any]) -> None:
        """Answer one request, whatever happens."""
        self.children = {pid for pid in self.children if os.waitpid(pid, os.WNOHANG) == (0, 0)}
        try:
            answer = getattr(self, "do_" + request["op"])(**request.get("args", {}))
        except OSError as error:
            answer = {"value": -1, "errno": error.errno}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        self.control.sendall(json.dumps({"id": request["id"], **answer}).encode() + b"\n")

    def do_become(self, name: str, uid: int, drop: list[int]) -> Answer:
        """Take a name, a uid and fewer capabilities."""
        libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
        try:
            become(uid, drop)
        except OSError as error:  # not the verdict of a call that somebody asked for
            raise RuntimeError(f"no user with uid {uid} without {drop}") from error
        return {"value": os.getpid(), "errno": 0}

    def do_syscall(self, number: int, args: list[Argument]) -> Answer:
        """Make a system call."""
        buffers: list[Memory] = []
        words = [ctypes.c_ulong(number)]
        for arg in args:
            if isinstance(arg, int):
                words.append(ctypes.c_ulong(arg & 0xFFFFFFFFFFFFFFFF))
            else:
                words.append(ctypes.c_ulong(ctypes.addressof(materialize(arg, buffers))))
        ctypes.set_errno(0)
        with self.short_of_memory():
            value = libc.syscall(*words)
        errno = ctypes.get_errno() if value == -1 else 0
        out = [memory.raw[:size].hex() for memory, size, wanted in buffers if wanted]
        return {"value": value, "errno": errno, "out": out}

    def do_starve(self, nth: int) -> Answer:
        """Have the nth allocation of the next call or write fail; tell if the last one's did."""
        self.nth, met, self.starved = nth, self.starved, False
        return {"value": int(met), "errno": 0}

    @contextlib.contextmanager
    def short_of_memory(self) -> Iterator[None]:
        """Have the kernel fail the allocation that is due, within the block."""
        if not self.nth:
            yield
            return
        nth, self.nth = self.nth, 0
        fd = os.open(FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(fd, str(nth).encode(), 0)
            yield
        finally:
            self.starved = int(os.pread(fd, NUMBER_BYTES, 0)) == 0
            os.pwrite(fd, b"0", 0)
            os.close(fd)

    def do_peek(self, address: int, size: int, width: int) -> Answer:
        """Load from mapped memory, in accesses of `width` bytes if that is not 0."""
        if not width:
            return {"value": 0, "errno": 0, "data": ctypes.string_at(address, size).hex()}
        words: Any = (WIDTHS[width] * (size // width)).from_address(address)
        data = b"".join(int(word).to_bytes(width, "little") for word in words)
        return {"value": 0, "errno": 0, "data": data.hex()}

    def do_touch(self, address: int) -> Answer:
        """Load a byte in a child, which may not survive it; the value is the signal that it got."""
        pid = os.fork()
        if pid == 0:
            try:
                ctypes.string_at(address, 1)
            finally:
                os._exit(0)
        return {"value": os.WTERMSIG(os.waitpid(pid, 0)[1]), "errno": 0}

    def do_poke(self, address: int, data: str, width: int) -> Answer:
        """Store to mapped memory, in accesses of `width` bytes if that is not 0."""
        raw = bytes.fromhex(data)
        if not width:
            ctypes.memmove(address, raw, len(raw))
        else:
            words: Any = (WIDTHS[width] * (len(raw) // width)).from_address(address)
            for index in range(len(words)):
                words[index] = int.from_bytes(raw[index * width : (index + 1) * width], "little")
        return {"value": 0, "errno": 0}

    def do_fork(self) -> Answer:
        """Fork: the child shares every open file and introduces itself to the router."""
        hear, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(self.control.fileno())  # close() would wait for the file made of it
                os.close(hear)
                control = socket.socket(socket.AF_UNIX)
                control.connect(self.door)
                if control.recv(8) != b"welcome\n":
                    os._exit(71)
                os.write(tell, b"!")
                os.close(tell)
                User(control, self.door).serve()
            finally:
                os._exit(70)
        self.children.add(pid)
        os.close(tell)
        admitted = os.read(hear, 1)
        os.close(hear)
        return {"value": pid if admitted else -1, "errno": 0 if admitted else 3}

    def do_read_file(self, path: str, size: int) -> Answer:
        """Read a file as far as `size` bytes."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts: list[bytes] = []
            while size > 0 and (part := os.read(fd, min(size, READ_BYTES))):
                parts.append(part)
                size -= len(part)
        finally:
            os.close(fd)
        return {"value": 0, "errno": 0, "data": b"".join(parts).hex()}

    def do_write_file(self, path: str, data: str) -> Answer:
        """Write to an existing file, in one write."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            content = bytes.fromhex(data)
            with self.short_of_memory():
                return {"value": os.write(fd, content), "errno": 0}
        finally:
            os.close(fd)

    def do_readlink(self, path: str) -> Answer:
        """Return what a symbolic link points to."""
        return {"value": 0, "errno": 0, "text": os.readlink(path)}

    def do_listdir(self, path: str) -> Answer:
        """Return the names in a folder."""
        return {"value": 0, "errno": 0, "names": sorted(os.listdir(path))}

    def do_run(self, argv: list[str], timeout_s: float, last_words: list[str]) -> Answer:
        """Run a command to its end, which we bring about if it is late or says its last words."""
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            late, *said = listen(process, timeout_s, [word.encode() for word in last_words])
            process.kill()  # which does nothing to one that has ended
        stdout, stderr = (part.decode(errors="replace") for part in said)
        code = process.returncode
        return {"value": code, "errno": 0, "late": late, "stdout": stdout, "stderr": stderr}


def listen(
    process: subprocess.Popen[bytes], timeout_s: float, last_words: list[bytes]
) -> tuple[bool, bytes, bytes]:
    """Listen until a process ends, says a last word or is late; return if it was, and its words."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            left_s = max(0.0, until - time.monotonic())
            return False, *process.communicate(timeout=min(LISTEN_S, left_s))
        except subprocess.TimeoutExpired as error:
            said = error.output or b"", error.stderr or b""
        if any(word in part for word in last_words for part in said):
            return False, *said
        if time.monotonic() >= until:
            return True, *said


def materialize(spec: dict[str, Any], buffers: list[Memory]) -> Any:
    """Allocate a buffer, its pointed-to buffers first patched in; note it in `buffers`."""
    raw = bytes.fromhex(spec["data"])
    memory = ctypes.create_string_buffer(raw, max(1, len(raw)))
    buffers.append((memory, len(raw), spec.get("out", False)))
    for offset, inner in spec.get("pointers", []):
        if not 0 <= offset <= len(raw) - POINTER_BYTES:
            raise ValueError(f"a pointer at {offset} does not fit into {len(raw)} bytes")
        address = ctypes.addressof(materialize(inner, buffers))
        ctypes.memmove(
            ctypes.addressof(memory) + offset,
            address.to_bytes(POINTER_BYTES, "little"),
            POINTER_BYTES,
        )
    return memory
