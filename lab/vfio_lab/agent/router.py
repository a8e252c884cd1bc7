"""The resident process: passes requests to users, starts them, and reports their end.

One request a line, `PID {json}`; PID 0 is the router itself. One answer a line, `{json}` with
the request's `id`; `{"event": "exit", ...}` comes unasked. The router opens no device, so what
a user holds, only that user holds.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal as signals
import socket
import struct
import time
import traceback
from typing import Any

from . import snapshot, user

Message = dict[str, Any]

RNDRESEEDCRNG = 0x5207
SIOCSIFHWADDR = 0x8924
ARPHRD_ETHER = 1
PR_SET_CHILD_SUBREAPER = 36
READ_BYTES = 1 << 16
LOG_RECORD_BYTES = 8192
LOG = "/dev/kmsg"
MARK = "vfio-lab: awake"
libc = ctypes.CDLL(None, use_errno=True)


class Router:
    """Owns the carrier and knows every user by its pid."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        """Serve `incoming`, answer on `outgoing` (file descriptors)."""
        self.incoming = incoming
        self.outgoing = outgoing
        self.users: dict[int, socket.socket] = {}  # pid -> socket
        self.tails: dict[int, bytes] = {}  # pid -> answer received in part
        self.pidfds: dict[int, int] = {}
        self.reserve: list[int] = []  # pids of users without an identity yet
        self.waiting: dict[int, list[int]] = {}  # pid -> ids of requests answered when it is gone
        self.statuses: dict[int, int] = {}  # pid -> wait status of a user not yet buried
        self.partial = b""
        self.selector = selectors.DefaultSelector()
        # Forked users meet the router here; users it forks itself inherit their socket.
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.door.bind(b"")  # the kernel picks an abstract address nobody else has
        self.door.listen(16)
        self.log = -1
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def serve(self) -> None:
        """Run until the carrier closes, then take every user along."""
        # What users' daemons leave behind is ours to reap, and some of them wait for that.
        signals.signal(signals.SIGCHLD, lambda *_: self.reap())
        self.selector.register(self.incoming, selectors.EVENT_READ, self.read_carrier)
        self.selector.register(self.door, selectors.EVENT_READ, self.admit)
        self.answer({"event": "ready", "pid": os.getpid()})
        try:
            while True:
                for key, _ in self.selector.select():
                    key.data()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass  # the host has hung up
        finally:
            for pid in self.users:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)

    def answer(self, message: Message) -> None:
        """Send one message to the host."""
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, line: bytes) -> None:
        """Send whole lines to the host."""
        view = memoryview(line)
        while view:
            view = view[os.write(self.outgoing, view) :]

    def read_carrier(self) -> None:
        """Take in requests; the end of the carrier is the end of the agent."""
        data = os.read(self.incoming, READ_BYTES)
        if not data:
            raise EOFError
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            if line:
                self.route(line)

    def route(self, line: bytes) -> None:
        """Hand a request to the user it is for, or do it."""
        address, _, body = line.partition(b" ")
        pid = int(address)
        if not pid:
            self.perform(json.loads(body))
            return
        try:
            self.users[pid].sendall(body + b"\n")
        except (KeyError, BrokenPipeError, ConnectionResetError):
            request = json.loads(body)["id"]
            self.answer({"id": request, "error": f"there is no user with pid {pid}"})

    def perform(self, request: Message) -> None:
        """Do what is asked of the router itself, and answer unless that comes later."""
        try:
            operation = getattr(self, "do_" + request["op"])
            result = operation(request["id"], **request.get("args", {}))
        except BaseException:
            self.answer({"id": request["id"], "error": traceback.format_exc()})
        else:
            if result is not None:
                self.answer({"id": request["id"], **result})

    def admit(self) -> None:
        """A user forked a child, which now introduces itself."""
        peer, _ = self.door.accept()
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        try:
            self.adopt(pid, peer)
            peer.sendall(b"welcome\n")
        except (ProcessLookupError, BrokenPipeError, ConnectionResetError):
            pass  # it is gone already; adopted, it will be buried

    def adopt(self, pid: int, peer: socket.socket) -> None:
        """Listen to a user and watch for its end."""
        pidfd = self.pidfds[pid] = os.pidfd_open(pid)
        self.users[pid] = peer
        self.tails[pid] = b""
        self.selector.register(peer, selectors.EVENT_READ, lambda: self.read_user(pid))
        self.selector.register(pidfd, selectors.EVENT_READ, lambda: self.bury(pid))

    def read_user(self, pid: int) -> None:
        """Pass a user's answers on, whole lines at a time."""
        peer = self.users.get(pid)
        if peer is None or pid not in self.tails:
            return
        try:
            data = peer.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionResetError):
            data = b""
        if not data:
            self.selector.unregister(peer)
            del self.tails[pid]
            return
        whole, newline, self.tails[pid] = (self.tails[pid] + data).rpartition(b"\n")
        self.send_raw(whole + newline)

    def bury(self, pid: int) -> None:
        """Report a user's end; only now has the kernel released all that it held."""
        pidfd = self.pidfds.pop(pid)
        self.selector.unregister(pidfd)
        os.close(pidfd)
        while pid in self.tails:
            self.read_user(pid)  # its last answers come before the news of its end
        self.reap()
        self.users.pop(pid).close()
        status = self.statuses.pop(pid, None)  # none if its parent, another user, has it
        code = None if status is None else os.waitstatus_to_exitcode(status)
        self.answer({"event": "exit", "pid": pid, "exit": code})
        for request in self.waiting.pop(pid, []):
            self.answer({"id": request, "exit": code})

    def reap(self) -> None:
        """Reap who has ended, those too whose parent was a user that is no more."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid in self.users:
                    self.statuses[pid] = status

    def do_reserve(self, _request: int, count: int) -> Message:
        """Fork users ahead of need: they wait, warm, for `spawn` to give them an identity."""
        self.reserve += [self.fork() for _ in range(count)]
        return {"pids": self.reserve}

    def do_spawn(self, request: int, name: str, uid: int, drop: list[int]) -> None:
        """Give a user in reserve an identity; the user itself answers."""
        pid = self.reserve.pop() if self.reserve else self.fork()
        identity = {"name": name, "uid": uid, "drop": drop}
        body = json.dumps({"id": request, "op": "become", "args": identity})
        self.users[pid].sendall(body.encode() + b"\n")

    def fork(self) -> int:
        """Fork a user that serves requests; return its pid."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                user.run(theirs, self.door.getsockname())
            except BaseException:
                traceback.print_exc()  # to the console: there is nobody left to answer
            finally:
                os._exit(70)
        theirs.close()
        self.adopt(pid, ours)
        return pid

    def do_kill(self, request: int, pid: int, signal: int) -> Message | None:
        """Send a signal; the answer comes when the user is gone."""
        os.kill(pid, signal)
        if pid not in self.users:
            return {"exit": None}
        self.waiting.setdefault(pid, []).append(request)
        return None

    def do_wake(self, _request: int, now_ns: int, seed: str, mac: str, interface: str) -> Message:
        """Make this clone differ from its siblings: clock, random state, MAC; mark the log."""
        self.open_log()
        os.lseek(self.log, 0, os.SEEK_END)
        time.clock_settime_ns(time.CLOCK_REALTIME, now_ns)
        pool = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
        os.write(pool, bytes.fromhex(seed))
        fcntl.ioctl(pool, RNDRESEEDCRNG)
        os.close(pool)
        if interface:
            request = struct.pack("16sH6s8x", interface.encode(), ARPHRD_ETHER, bytes.fromhex(mac))
            fcntl.ioctl(self.door, SIOCSIFHWADDR, request)  # any socket will do: netdevice(7)
        return {"log_us": self.mark_log(), "now_ns": time.time_ns()}

    def do_kernel_log(self, _request: int) -> Message:
        """Return the kernel log's records since the last call or wake, in /dev/kmsg form."""
        self.open_log()
        records = []
        while True:
            try:
                records.append(os.read(self.log, LOG_RECORD_BYTES).decode(errors="replace"))
            except BlockingIOError:
                return {"records": records}
            except BrokenPipeError:
                continue  # overwritten while we read: the next read starts at the oldest

    def do_snapshot(self, _request: int) -> Message:
        """Return every PCI function, and what every user has open, by pid."""
        held = {pid: snapshot.descriptors(pid) for pid in self.users if pid not in self.reserve}
        return {"functions": snapshot.functions(), "descriptors": held}

    def mark_log(self) -> int:
        """Write a line of our own, and return the log's stamp of now, in microseconds."""
        log = os.open(LOG, os.O_WRONLY | os.O_CLOEXEC)
        os.write(log, f"<7>{MARK}\n".encode())  # readers are not shown a line that may go on
        os.close(log)
        while MARK not in (record := os.read(self.log, LOG_RECORD_BYTES).decode(errors="replace")):
            pass
        return int(record.split(",")[2])

    def open_log(self) -> None:
        """Open the kernel log on first use: not everyone who runs an agent may read it."""
        if self.log < 0:
            self.log = os.open(LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
