"""Calls as steps of the program."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vfio_lab.report.repro import names
from vfio_lab.report.repro.memory import Process, Variables
from vfio_lab.report.repro.recording import Call, CannotWrite
from vfio_lab.report.repro.roles import Roles
from vfio_lab.report.repro.structs import (
    LONGEST_COMPARED,
    Memory,
    Writer,
    answer_checks,
    constant_bytes,
    raw_bytes,
)

MAKES_FD = frozenset({"openat", "dup", "eventfd2"})
NODES = {"/dev/vfio/vfio": "container", "/dev/iommu": "iommufd"}
STEMS = {"dup": "copy", "eventfd2": "event"}
PROGRAMS = frozenset({"modprobe", "rmmod"})
# Files that say something else each time.
CHANGING = (
    "/proc/",
    "/resource",
    "/uevent",
    "/irq",
    "/config",
    "/runtime_",
    "/usage",
    "/boot_vga",
    "/slots/",
)
SETTLES = "/power_state"  # a function is suspended after the call that lets it
OTHER_PROCESS = re.compile(r"/proc/\d+/(\w+)$")
MAKES_ID = {
    "out_ioas_id": "ioas",
    "out_devid": "devid",
    "out_hwpt_id": "hwpt",
    "pt_id": "pt",
    "ioas_id": "compat_ioas",
}
LONGEST_TEXT = 200
ENDS_WELL = "OK"
CHECKED = re.compile(r"(EXPECT(?:_VALUE)?\(\w+, )(.*)\);$")
SET_FILE = "set_file("
NAMED = ("VFIO_", "IOMMU_")  # of other ioctls the headers may have no names any more


class Steps:
    """Writes the calls of one user.

    Args:
        process: the user's descriptors and mappings so far.
        variables: of the whole program.
        roles: of what is named in texts.
        children: name in the program of the process of each forked child, by its process ID.
    """

    def __init__(
        self, process: Process, variables: Variables, roles: Roles, children: Mapping[int, str]
    ) -> None:
        self.process = process
        self.variables = variables
        self.roles = roles
        self.children = children

    def lines(self, call: Call) -> list[str]:
        """Return the statements of a call, none for one that only looks something up.

        Raises:
            CannotWrite: no C program can do that.
        """
        write: Callable[[Call], Iterator[str]] | None = getattr(
            self, f"_{call.syscall or call.name}", None
        )
        if write is None:
            raise CannotWrite(f"it uses {call.syscall or call.name}")
        lines = list(write(call))
        return _starved(lines, call.failed_allocation) if call.failed_allocation else lines

    # Operations of the agent.

    def _write_file(self, call: Call) -> Iterator[str]:
        data = call.arguments["data"]
        if not isinstance(data, str):
            raise CannotWrite("it writes bytes that are no text to a file")
        path = self.roles.text(call.arguments["path"])
        yield f"EXPECT({_errno(call)}, set_file({path}, {self.roles.text(data)}));"

    def _read_file(self, call: Call) -> Iterator[str]:
        path = call.arguments["path"]
        if path.startswith("/proc/") or any(part in path for part in CHANGING):
            return
        shown = f"read_file({self.roles.text(path)})"
        if call.errno:
            yield f"EXPECT({_errno(call)}, found({shown}));"
        elif isinstance(text := call.answer.get("data"), str):
            text = text.rstrip("\n")
            if "\n" not in text and len(text) <= LONGEST_TEXT and not self.roles.mentions(text):
                settles = call.polled or path.endswith(SETTLES)
                check = "EVENTUALLY" if settles else "EXPECT_TEXT"
                yield f"{check}({self.roles.text(text)}, {shown});"

    def _readlink(self, call: Call) -> Iterator[str]:
        shown = f"read_link({self.roles.text(call.arguments['path'])})"
        if call.errno:
            yield f"EXPECT({_errno(call)}, found({shown}));"
        elif call.arguments["path"].endswith("/driver"):
            driver = call.answer["text"].rpartition("/")[2]
            yield f'EXPECT_TEXT("{driver}", {shown});'

    def _listdir(self, call: Call) -> Iterator[str]:
        self.roles.follow(call)
        if call.errno:
            path = self.roles.text(call.arguments["path"])
            yield f"EXPECT({_errno(call)}, access({path}, F_OK));"

    def _run(self, call: Call) -> Iterator[str]:
        program, *words = call.arguments["argv"]
        if program not in PROGRAMS:
            raise CannotWrite(f"it runs {program}")
        if program == "modprobe" and not words[0].startswith("-"):
            parameters = f'"{" ".join(words[1:])}"' if words[1:] else "NULL"
            yield f'EXPECT_VALUE({call.value}, load_module("{words[0]}", {parameters}));'
            return
        given = ", ".join([f'"{program}"', *(self.roles.text(word) for word in words), "NULL"])
        yield f"EXPECT_VALUE({call.value}, run({given}));"

    def _peek(self, call: Call) -> Iterator[str]:
        address, size = call.arguments["address"], call.arguments["size"]
        where = self._address(address)
        if "data" not in call.answer:
            yield f"__u8 seen[{size}];"
            yield "atomic_store(&shared->killed[me], 1);"
            yield f"copy(seen, {where}, {size}, {call.arguments['width']});"
            return
        raw = raw_bytes(call.answer["data"])[:LONGEST_COMPARED]
        compared = min(size, LONGEST_COMPARED)
        yield f"__u8 seen[{size}];"
        yield from constant_bytes("expected", raw, compared)
        how, until = ("copy_until", f", expected, {compared}") if call.polled else ("copy", "")
        yield f"{how}(seen, {where}, {size}, {call.arguments['width']}{until});"
        yield f"EXPECT_BYTES(expected, seen, {compared});"

    def _poke(self, call: Call) -> Iterator[str]:
        data = call.arguments["data"]
        raw = raw_bytes(data)
        size = data["size"] if isinstance(data, Mapping) else len(raw)
        yield from constant_bytes("data", raw, size)
        where = self._address(call.arguments["address"])
        yield f"copy({where}, data, {size}, {call.arguments['width']});"

    def _touch(self, call: Call) -> Iterator[str]:
        number = signal.Signals(call.value).name if call.value else "0"
        yield f"EXPECT_VALUE({number}, touch({self._address(call.arguments['address'])}));"

    def _fork(self, call: Call) -> Iterator[str]:
        yield f"fork_user({self.children[call.value or 0]});"

    # System calls.

    def _openat(self, call: Call) -> Iterator[str]:
        path = call.arguments["pathname"]
        if match := OTHER_PROCESS.match(path):
            raise CannotWrite(f"it reads another process's {match[1]}")
        how = names.flags(call.arguments["flags"], names.OPEN)
        how = how if "O_RDWR" in how or "O_WRONLY" in how else f"O_RDONLY | {how}"
        stem = NODES.get(path) or ("device" if "/devices/" in path else "")
        stem = stem or ("group" if path.startswith("/dev/vfio/") else "file")
        yield self._fd(call, stem, f"open({self.roles.text(path)}, {how})")

    def _dup(self, call: Call) -> Iterator[str]:
        yield self._fd(call, "copy", f"dup({self.process.fd(call.arguments['oldfd'])})")

    def _eventfd2(self, call: Call) -> Iterator[str]:
        how = names.flags(call.arguments["flags"], names.OPEN)
        yield self._fd(call, "event", f"syscall(SYS_eventfd2, {call.arguments['initval']}, {how})")

    def _close(self, call: Call) -> Iterator[str]:
        number = call.arguments["fd"]
        yield f"EXPECT({_errno(call)}, close({self.process.fd(number)}));"

    def _access(self, call: Call) -> Iterator[str]:
        path = call.arguments["pathname"]
        if path.startswith("/dev/vfio/noiommu-") and call.errno:
            return  # how the lab tells which name a group's node has
        yield f"EXPECT({_errno(call)}, access({self.roles.text(path)}, F_OK));"

    def _chown(self, call: Call) -> Iterator[str]:
        path = self.roles.text(call.arguments["pathname"])
        owner, group = call.arguments["owner"], call.arguments["group"]
        yield f"EXPECT({_errno(call)}, chown({path}, {owner}, {group}));"

    def _mmap(self, call: Call) -> Iterator[str]:
        given = call.arguments
        fd = given["fd"] if given["fd"] < 1 << 31 else -1
        words = ", ".join(
            [
                self.process.address(given["addr"])
                or (f"at({given['addr']:#x}UL)" if given["addr"] else "NULL"),
                names.number(given["length"]),
                names.flags(given["prot"], names.PROT) if given["prot"] else "PROT_NONE",
                names.flags(given["flags"], names.MAP),
                self.process.fd(fd),
                self.process.offset(given["offset"]),
            ]
        )
        if call.errno or call.value is None:
            yield f"EXPECT({_errno(call)}, mmap({words}));"
            return
        name = self.variables.new("char *", "memory" if fd < 0 else "mapping")
        self.process.maps[call.value] = (name, given["length"])
        yield f"\0{name} = (char *)\0EXPECT(OK, mmap({words}));"

    def _munmap(self, call: Call) -> Iterator[str]:
        given = call.arguments
        where = self._address(given["addr"])
        yield f"EXPECT({_errno(call)}, munmap({where}, {given['length']:#x}));"

    def _mprotect(self, call: Call) -> Iterator[str]:
        given = call.arguments
        how = names.flags(given["prot"], names.PROT) if given["prot"] else "PROT_NONE"
        where = self._address(given["addr"])
        yield f"EXPECT({_errno(call)}, mprotect({where}, {given['len']:#x}, {how}));"

    def _read(self, call: Call) -> Iterator[str]:
        yield from self._input(call, "read", "")

    def _pread64(self, call: Call) -> Iterator[str]:
        yield from self._input(call, "pread", f", {self.process.offset(call.arguments['offset'])}")

    def _write(self, call: Call) -> Iterator[str]:
        yield from self._output(call, "write", "")

    def _pwrite64(self, call: Call) -> Iterator[str]:
        offset = self.process.offset(call.arguments["offset"])
        yield from self._output(call, "pwrite", f", {offset}")

    def _poll(self, call: Call) -> Iterator[str]:
        given = call.arguments
        if isinstance(where := given["fds"], int):
            words = f"(void *)({self._address(where)}), {given['nfds']}, {given['timeout']}"
            yield f"EXPECT({_errno(call)}, poll({words}));"
            return
        fields = given["fds"]["fields"]
        fd = self.process.fd(fields["fd"])
        yield f"struct pollfd fds = {{ .fd = {fd}, .events = {fields['events']} }};"
        ready = "" if call.value is None else f"EXPECT_VALUE({call.value}, "
        yield f"{ready}poll(&fds, {given['nfds']}, {given['timeout']}){')' if ready else ''};"

    def _setrlimit(self, call: Call) -> Iterator[str]:
        fields = call.arguments["rlim"]["fields"]
        yield f"struct rlimit limit = {{ {fields['rlim_cur']}UL, {fields['rlim_max']}UL }};"
        resource = call.arguments["resource"]
        yield f"EXPECT({_errno(call)}, setrlimit({resource}, &limit));"

    def _prctl(self, call: Call) -> Iterator[str]:
        words = ", ".join(str(one) for one in call.arguments.values())
        yield f"EXPECT({_errno(call)}, prctl({words}));"

    def _capget(self, call: Call) -> Iterator[str]:
        yield from self._capabilities(call)

    def _capset(self, call: Call) -> Iterator[str]:
        yield from self._capabilities(call)

    def _capabilities(self, call: Call) -> Iterator[str]:
        writer = Writer(self.process)
        for name in ("hdrp", "datap"):
            writer.buffer(name, call.arguments[name])
        yield from writer.lines
        yield f"EXPECT({_errno(call)}, syscall(SYS_{call.syscall}, hdrp, datap));"

    def _fcntl(self, call: Call) -> Iterator[str]:
        given = call.arguments
        words = f"{self.process.fd(given['fd'])}, {given['cmd']}, {given['arg']}"
        yield f"EXPECT({_errno(call)}, fcntl({words}));"

    def _ioctl(self, call: Call) -> Iterator[str]:
        given = call.arguments
        request = call.name if call.name.startswith(NAMED) else f"{given['request']:#x}"
        fd, arg = self.process.fd(given["fd"]), given.get("arg", 0)
        memory = self._argument(call, arg)
        yield from memory.lines
        yield from self._ioctl_call(call, f"ioctl({fd}, {request}, {memory.expression})")
        if memory.struct and not call.errno and call.ended is not None:
            yield from self._answers(memory, arg, call.answer.get("arg", {}))

    def _ioctl_call(self, call: Call, text: str) -> Iterator[str]:
        if call.name == "VFIO_GROUP_GET_DEVICE_FD":
            yield self._fd(call, "device", text)
        elif call.name == "VFIO_DEVICE_FEATURE" and call.value:
            yield self._fd(call, "dmabuf", text)
        elif call.value and not call.errno:
            yield f"EXPECT_VALUE({call.value}, {text});"
        else:
            yield f"EXPECT({_errno(call)}, {text});"

    def _argument(self, call: Call, arg: Any) -> Memory:
        if isinstance(arg, int):
            return Memory(self.process.address(arg) or names.argument(call.name, arg))
        if arg.get("struct") == "char[]":
            name = arg["fields"]["name"]
            if arg.get("rest") or not isinstance(name, str):
                raise CannotWrite("it passes a name that is no text")
            return Memory(self.roles.text(name))
        return Writer(self.process).memory("arg", arg)

    def _answers(
        self, memory: Memory, given: Mapping[str, Any], seen: Mapping[str, Any]
    ) -> Iterator[str]:
        """Keep the objects that a call made, and compare the rest with the record."""
        fields = seen.get("fields", {})
        for key, stem in MAKES_ID.items():
            value = fields.get(key)
            if value and value != given["fields"].get(key):
                name = self.variables.new("__u32 ", stem)
                self.process.ids[value] = name
                yield f"\0{name} = {memory.struct}.{key};\0"
        known = fields.get("offset") in self.process.regions
        if memory.kind == "vfio_region_info" and fields.get("size") and not known:
            name = self.variables.new("__u64 ", f"region{fields['index']}")
            self.process.regions[fields["offset"]] = (name, fields["size"])
            yield f"\0{name} = {memory.struct}.offset;\0"
        yield from answer_checks(memory, given, seen)

    def _input(self, call: Call, name: str, offset: str) -> Iterator[str]:
        size = call.arguments["count"]
        fd = self.process.fd(call.arguments["fd"])
        if isinstance(where := call.arguments["buf"], int):
            yield f"EXPECT({_errno(call)}, {name}({fd}, {self._address(where)}, {size}{offset}));"
            return
        yield f"__u8 seen[{max(1, size)}] = {{ 0 }};"
        words = f"{name}({fd}, seen, {size}{offset})"
        if call.errno or call.value is None:
            yield f"EXPECT({_errno(call)}, {words});"
            return
        compared = min(call.value, LONGEST_COMPARED)
        if compared:
            raw = raw_bytes(call.answer["buf"])[:compared]
            yield from constant_bytes("expected", raw, compared)
        if call.polled:
            there = f"{words} == {call.value} && !memcmp(expected, seen, {compared})"
            yield f"for (int i = 0; i < POLLS && !({there}); i++)"
            yield "\tusleep(POLL_US);"
        else:
            yield f"EXPECT_VALUE({call.value}, {words});"
        if compared:
            yield f"EXPECT_BYTES(expected, seen, {compared});"

    def _output(self, call: Call, name: str, offset: str) -> Iterator[str]:
        if isinstance(where := call.arguments["buf"], int):
            fd, size = self.process.fd(call.arguments["fd"]), call.arguments["count"]
            yield f"EXPECT({_errno(call)}, {name}({fd}, {self._address(where)}, {size}{offset}));"
            return
        writer = Writer(self.process)
        writer.buffer("data", call.arguments["buf"])
        yield from writer.lines
        fd, size = self.process.fd(call.arguments["fd"]), call.arguments["count"]
        yield f"EXPECT({_errno(call)}, {name}({fd}, data, {size}{offset}));"

    def _fd(self, call: Call, stem: str, text: str) -> str:
        """Return a call whose value is a descriptor, kept in a variable if it is used."""
        if call.errno or call.value is None:
            return f"EXPECT({_errno(call)}, {text});"
        name = self.variables.new("int ", stem)
        self.process.fds[call.value] = name
        return f"\0{name} = \0EXPECT(OK, {text});"

    def _address(self, number: int) -> str:
        return self.process.address(number) or f"at({number:#x}UL)"


def _starved(lines: list[str], nth: int) -> list[str]:
    """Return the statements of a call in which an allocation fails: the first check makes it."""
    number, match = next(
        (number, match) for number, line in enumerate(lines) if (match := CHECKED.search(line))
    )
    before, check, made = lines[number][: match.start()], match[1], match[2]
    if made.startswith(SET_FILE):
        made = f"starved_write({nth}, {made.removeprefix(SET_FILE)}"
    else:
        made = f"STARVED({nth}, {made})"
    return [*lines[:number], f"{before}{check}{made});", *lines[number + 1 :]]


def _errno(call: Call) -> str:
    return call.errno or ENDS_WELL
