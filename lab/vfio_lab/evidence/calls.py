"""Calls as evidence: a line of text each for people, a record each for programs.

docs/results.md describes the records, `calls.jsonl`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vfio_lab.client.call import Buffer, name_of
from vfio_lab.client.transcript import Entry
from vfio_lab.evidence.decode import STRING, Decoded, PointerTo, decode
from vfio_lab.evidence.shorten import changed, cut, short

SCHEMA = 1  # increase it when a field changes its meaning or goes; new fields do no harm
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "access": ("pathname", "mode"),
    "capget": ("hdrp", "datap"),
    "capset": ("hdrp", "datap"),
    "chown": ("pathname", "owner", "group"),
    "close": ("fd",),
    "bind": ("sockfd", "addr", "addrlen"),
    "dup": ("oldfd",),
    "eventfd2": ("initval", "flags"),
    "execve": ("pathname", "argv", "envp"),
    "fcntl": ("fd", "cmd", "arg"),
    "ftruncate": ("fd", "length"),
    "ioctl": ("fd", "request", "arg"),
    "kexec_file_load": ("kernel_fd", "initrd_fd", "cmdline_len", "cmdline", "flags"),
    "memfd_create": ("name", "flags"),
    "mmap": ("addr", "length", "prot", "flags", "fd", "offset"),
    "mprotect": ("addr", "len", "prot"),
    "mremap": ("old_address", "old_size", "new_size", "flags", "new_address"),
    "munmap": ("addr", "length"),
    "openat": ("dirfd", "pathname", "flags", "mode"),
    "poll": ("fds", "nfds", "timeout"),
    "prctl": ("option", "arg2", "arg3", "arg4", "arg5"),
    "pread64": ("fd", "buf", "count", "offset"),
    "pwrite64": ("fd", "buf", "count", "offset"),
    "reboot": ("magic", "magic2", "op", "arg"),
    "recvmsg": ("sockfd", "msg", "flags"),
    "read": ("fd", "buf", "count"),
    "sendmsg": ("sockfd", "msg", "flags"),
    "sethostname": ("name", "len"),
    "setrlimit": ("resource", "rlim"),
    "socket": ("domain", "type", "protocol"),
    "write": ("fd", "buf", "count"),
}
READS = frozenset({"pread64", "read"})
PATHS = frozenset({"pathname", "name"})
LONGEST_TEXT = 1 << 16


def transcript(entries: Iterable[Entry]) -> str:
    """Return calls as text, one line each: time, user, call, arguments, result."""
    lines = []
    for entry in entries:
        clock = time.strftime("%H:%M:%S", time.gmtime(entry.began))
        stamp = f"{clock}.{int(entry.began % 1 * 1e6):06d}"
        lines.append(f"{stamp} {entry.user:<12} {entry.call}({arguments(entry)}) = {result(entry)}")
    return "\n".join(lines) + "\n" if lines else ""


def call_records(entries: Iterable[Entry], awake_at: float | None) -> Iterator[str]:
    """Yield the lines of `calls.jsonl`: a header, then a record for each call.

    Args:
        entries: the calls, in the order they began.
        awake_at: when the scenario got the machine, seconds since the epoch.
    """
    yield json.dumps({"schema": SCHEMA, "awake": awake_at})
    for entry in entries:
        yield json.dumps(call_record(entry), separators=(",", ":"))


def call_record(entry: Entry) -> dict[str, Any]:
    """Return a call as JSON shows it."""
    errno = entry.answer.get("errno")
    return {
        "user": entry.user,
        "pid": entry.pid,
        "call": entry.call,
        "syscall": entry.syscall or None,
        "arguments": _plain(_given(entry)),
        "result": entry.result,
        "value": entry.answer.get("value"),
        "errno": name_of(errno) if errno else None,
        "answer": _plain(_answered(entry)),
        "began": entry.began,
        "ended": entry.ended,
        "failed_allocation": entry.failed_allocation or None,
    }


def arguments(entry: Entry) -> str:
    """Return a call's arguments in words; a struct is shown by its fields."""
    given = _given(entry)
    if any(isinstance(one, Decoded) and one.struct != STRING for one in given.values()):
        return ", ".join(short(one) for name, one in given.items() if name != "request")
    return cut(entry.arguments)


def result(entry: Entry) -> str:
    """Return a call's result in words, with what the kernel changed in its struct."""
    given, answered = _given(entry), _answered(entry)
    told = [] if {"data", "names", "text"} & answered.keys() else [entry.result]
    for name, value in answered.items():
        before = given.get(name)
        if isinstance(value, Decoded) and isinstance(before, Decoded):
            told.append(changed(before, value))
        elif entry.syscall in READS:
            told.append(short(value[: max(0, entry.answer["value"])]))
        elif value or not entry.options:
            told.append(short(value))
    if entry.failed_allocation:
        told.append(f"(the lab failed allocation {entry.failed_allocation} of this call)")
    return " ".join(filter(None, told))


def _given(entry: Entry) -> dict[str, Any]:
    """Return the arguments by their names; an ioctl's struct is decoded."""
    if not entry.syscall:
        return {name: _readable(name, value) for name, value in entry.options.items()}
    contents = {id(buffer): buffer.data for buffer in _buffers(entry.given)}
    return {
        name: _argument(entry, name, arg, contents)
        for name, arg in zip(_parameters(entry), entry.given, strict=True)
    }


def _answered(entry: Entry) -> dict[str, Any]:
    """Return what came back besides the value, by the names of arguments or answer fields."""
    if not entry.syscall:
        kept = {"data", "names", "text", "exit", "stdout", "stderr"} & entry.answer.keys()
        return {name: _readable(name, entry.answer[name]) for name in sorted(kept)}
    wanted = [buffer for buffer in _buffers(entry.given) if buffer.out]
    out = map(bytes.fromhex, entry.answer.get("out", ()))
    contents = {id(buffer): data for buffer, data in zip(wanted, out, strict=False)}
    return {
        name: _argument(entry, name, arg, contents)
        for name, arg in zip(_parameters(entry), entry.given, strict=True)
        if isinstance(arg, Buffer) and id(arg) in contents
    }


def _argument(entry: Entry, name: str, arg: int | Buffer, contents: Mapping[int, bytes]) -> Any:
    if isinstance(arg, int):
        return arg
    data = contents[id(arg)]
    pointed = {at: contents.get(id(inner), inner.data) for at, inner in arg.pointers}
    if name in PATHS:
        return data.rstrip(b"\0").decode(errors="surrogateescape")
    call = entry.call if entry.syscall == "ioctl" else entry.syscall
    return decode(call, data, pointed) or data


def _parameters(entry: Entry) -> tuple[str, ...]:
    known = PARAMETERS.get(entry.syscall, ())
    return (*known, *(f"arg{number}" for number in range(len(known), 6)))[: len(entry.given)]


def _buffers(args: Iterable[int | Buffer]) -> Iterator[Buffer]:
    """Yield buffers in the order in which the agent returns their contents: outer before inner."""
    for arg in args:
        if isinstance(arg, Buffer):
            yield arg
            yield from _buffers(inner for _, inner in arg.pointers)


def _readable(name: str, value: Any) -> Any:
    """Return a value of the agent, decoded from hex where it is text."""
    if name != "data":
        return list(value) if isinstance(value, tuple) else value
    raw = bytes.fromhex(value)
    return raw.decode() if raw.isascii() and b"\0" not in raw else raw


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    match value:
        case Decoded(struct, fields, rest):
            tail = {"rest": _plain(rest)} if rest else {}
            plain: Any = {"struct": struct, "fields": _plain(fields), **tail}
        case PointerTo(there):
            plain = {"to": _plain(there)}
        case bytes():
            plain = {"size": len(value), "bytes": value[:LONGEST_TEXT].rstrip(b"\0").hex()}
        case str():
            plain = value[:LONGEST_TEXT].encode(errors="backslashreplace").decode()
        case dict():
            plain = {name: _plain(inner) for name, inner in value.items()}
        case list():
            plain = [_plain(inner) for inner in value]
        case _:
            plain = value
    return plain
