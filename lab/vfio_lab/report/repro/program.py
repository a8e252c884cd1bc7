"""The program: its head, the steps in the order of the record, and what runs them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources

from vfio_lab.qemu.console import complaints
from vfio_lab.report.repro.layout import broken
from vfio_lab.report.repro.memory import Process, Variables
from vfio_lab.report.repro.recording import Call, CannotWrite, Recording, condensed, expected
from vfio_lab.report.repro.roles import Roles, find_roles
from vfio_lab.report.repro.steps import Steps
from vfio_lab.spec.claims import load_claims
from vfio_lab.spec.scenarios import scenario_sentence

WIDTH = 72
INCLUDES = (
    "dirent.h",
    "errno.h",
    "fcntl.h",
    "grp.h",
    "poll.h",
    "signal.h",
    "stdarg.h",
    "stdatomic.h",
    "stdbool.h",
    "stdint.h",
    "stdio.h",
    "stdlib.h",
    "string.h",
    "sys/ioctl.h",
    "sys/mman.h",
    "sys/prctl.h",
    "sys/resource.h",
    "sys/syscall.h",
    "sys/wait.h",
    "unistd.h",
    "linux/capability.h",
    "linux/iommufd.h",
    "linux/vfio.h",
)
ASSIGNED = re.compile("\0([a-z0-9_]+) = ([^\0]*)\0")
KILLER = "the one who kills"
# How the lab asks whether a call sleeps: TestMachine.is_blocked().
STATUS = re.compile(r"/proc/(\d+)/status")
SLEEPS = "State:\tD"
NODES = ("/dev/vfio/vfio", "/dev/iommu")
FAIL_NTH = "/proc/self/fail-nth"
# What runs the steps, in order, and what a step must call for a part to be needed.
RUNTIME = {
    "turns.c": "",
    "checks.c": "",
    "pci.c": "",
    "memory.c": r"\b(?:at|copy|copy_until|touch)\(",
    "users.c": "",
    "settings.c": "",
    "devices.c": "",
    "starve.c": r"\b(?:STARVED|starved_write)\(",
    "main.c": "",
}


@dataclass(frozen=True)
class User:
    """A process of the program.

    Args:
        constant: its name in the program.
        name: in words.
        uid: its user ID.
        dropped: a bit for each capability that it lacks.
    """

    constant: str
    name: str
    uid: int = 0
    dropped: int = 0


def c_program(recording: Recording) -> str:
    """Return the C file of a scenario.

    Raises:
        CannotWrite: it has no call, or one that a C program cannot make.
    """
    if not recording.calls:
        raise CannotWrite("it makes no call")
    calls = [call for call in condensed(expected(recording)) if call.name != "become"]
    roles = find_roles(recording)
    users, children = _users(recording, calls)
    variables = Variables()
    steps = list(_steps(calls, users, children, roles, variables))
    text = "\n".join(line for step in steps for line in step)
    used = {name for name in variables.types if _reads(text, name)}
    settled = (_settled(line, used) for step in steps for line in step)
    body = [row for line in settled for row in broken(line)]
    declared = [f"\t{variables.types[name]}{name} = 0;" for name in variables.types if name in used]
    parts = [
        *_head(recording, roles),
        *_tables(recording, roles, users, children, len(steps)),
        *_runtime(text),
        "static void scenario(void)\n{",
        *declared,
        *body,
        "}",
    ]
    return "\n".join(parts) + "\n"


def _runtime(text: str) -> Iterator[str]:
    """Yield the parts of what runs the steps whose text is given."""
    folder = resources.files("vfio_lab.report.repro") / "runtime"
    yield from (
        (folder / part).read_text() for part, used in RUNTIME.items() if re.search(used, text)
    )


def _users(recording: Recording, calls: list[Call]) -> tuple[dict[int, User], dict[int, str]]:
    """Return the users by their process IDs, started ones first, and the constants of children."""
    children = {call.value: call for call in calls if call.name == "fork" and call.value}
    identities = {
        call.pid: (call.arguments["uid"], sum(1 << one for one in call.arguments["drop"]))
        for call in recording.calls
        if call.name == "become"
    }
    names = {call.pid: call.user for call in recording.calls} | {
        pid: f"{call.user}'s child" for pid, call in children.items() if pid
    }
    users: dict[int, User] = {}
    for pid in sorted(names, key=lambda one: one in children):
        stem = re.sub(r"[^A-Z0-9]+", "_", names[pid].upper()).strip("_")
        taken = sum(one.constant.rstrip("0123456789") == stem for one in users.values())
        uid, dropped = identities.get(pid, (0, 0))
        users[pid] = User(f"{stem}{taken + 1 if taken else ''}", names[pid], uid, dropped)
    return users, {pid: users[pid].constant for pid in children if pid is not None}


def _steps(
    calls: list[Call],
    users: dict[int, User],
    children: dict[int, str],
    roles: Roles,
    variables: Variables,
) -> Iterator[list[str]]:
    processes: dict[int, Process] = {}
    running: dict[int, tuple[int, Call]] = {}
    number = 0
    for call, after in zip(calls, [*calls[1:], None], strict=True):
        roles.follow(call)
        process = processes.setdefault(call.pid, Process(users[call.pid].constant))
        lines = (
            _kill(call, users)
            if call.name == "kill"
            else _blocked(call, running) or Steps(process, variables, roles, children).lines(call)
        )
        if call.name == "fork" and call.value:
            processes[call.value] = process.forked(children[call.value])
        if not lines:
            continue
        lines = [*_waits(call, running, number), *lines]
        constant = "KILLER" if call.name == "kill" else users[call.pid].constant
        blocks = (
            after is not None
            and after.pid != call.pid
            and (call.ended is None or after.began < call.ended)
        )
        if blocks and call.name != "kill":
            running[number] = (number, call)
        macro = "BLOCKS" if number in running else "ON"
        yield [f"\t{macro}({constant}, {number}) {{", *(f"\t\t{line}" for line in lines), "\t}", ""]
        number += 1


def _waits(call: Call, running: dict[int, tuple[int, Call]], number: int) -> Iterator[str]:
    """Yield what a step asks of calls that had not returned when they were left behind."""
    for begun, (_, blocked) in list(running.items()):
        if blocked.ended is not None and blocked.ended <= call.began:
            yield f"returned({begun});"
            del running[begun]
        elif begun == number - 1:
            yield "entered();"


def _blocked(call: Call, running: dict[int, tuple[int, Call]]) -> list[str]:
    """Return what stands for a look at the state of a process that sleeps in the kernel."""
    looked = STATUS.fullmatch(str(call.arguments.get("path", "")))
    if looked is None or SLEEPS not in str(call.answer.get("data", "")):
        return []
    for begun, (_, blocked) in running.items():
        if blocked.pid == int(looked[1]):
            # One that returns by itself may do so soon.
            settle = "ENTER_US" if blocked.ended else "SETTLE_US"
            return [f"still_blocked({begun}, {settle});"]
    return []


def _kill(call: Call, users: dict[int, User]) -> list[str]:
    """Return the statement for a kill, which the record notes with its target."""
    return [f"kill_user({users[call.pid].constant}, {call.arguments.get('signal', 'SIGKILL')});"]


def _reads(text: str, name: str) -> bool:
    """Return whether a variable is used elsewhere than where it is assigned."""
    return bool(re.search(rf"(?<![.\w]){name}\b", ASSIGNED.sub(r"\2", text)))


def _settled(line: str, used: set[str]) -> str:
    """Return a line with the assignments that are needed; the others leave the call alone."""
    return ASSIGNED.sub(lambda match: f"{match[1]} = {match[2]}" if match[1] in used else "", line)


def _head(recording: Recording, roles: Roles) -> Iterator[str]:
    record = recording.record
    sentence = scenario_sentence(record.nodeid)
    claims = load_claims()
    told = [
        record.nodeid,
        "",
        *([sentence, ""] if sentence else []),
        *(f"{name}: {claims[name].sentence}" for name in record.claims if name in claims),
        "",
        f"Written by vfio-lab {metadata.version('vfio-lab')} from a run on kernel "
        f"{recording.kernel}, where it {record.outcome.value}. Every user is a process, and they "
        "take their steps in the recorded order.",
        "",
        "Build: gcc -Wall -Wextra -Werror -o repro FILE.c",
        f"Run as root: ./repro{role_options(roles)}",
        "Ends with 0 if the kernel answers as recorded, 1 if it does not, 4 if it cannot be asked.",
    ]
    yield "// SPDX-License-Identifier: GPL-2.0"
    yield "/*"
    for line in told:
        for part in textwrap.wrap(line, WIDTH, break_long_words=False) or [""]:
            yield f" * {part}".rstrip().replace("*/", "* /")
    yield " */"
    yield "#define _GNU_SOURCE"
    yield from (f"#include <{name}>" for name in INCLUDES)
    yield ""


def role_options(roles: Roles) -> str:
    """Return the program's options with the recorded addresses."""
    return "".join(f" --{role} {address}" for address, (role, _) in roles.options.items())


def _tables(
    recording: Recording,
    roles: Roles,
    users: dict[int, User],
    children: dict[int, str],
    steps: int,
) -> Iterator[str]:
    everybody = [*(one for pid, one in users.items() if pid not in children)]
    everybody += [User("KILLER", KILLER)]
    started = len(everybody)
    everybody += [one for pid, one in users.items() if pid in children]
    name = recording.record.nodeid.removeprefix("scenarios/").replace("#", "no.")
    wanted = complaints(recording.log)
    yield f'#define NAME "{name}"'
    yield f"#define STEPS {steps}"
    yield f"#define STARTED {started}"
    yield f"#define DEVICES {len(roles.options)}"
    yield f"#define COMPLAINS {'true' if wanted and _passed(recording) else 'false'}"
    yield f"enum {{ {', '.join(one.constant for one in everybody)}, USERS }};"
    yield "static const struct user {\n\tconst char *name;\n\tunsigned int uid;\n\t__u64 dropped;"
    yield "} users[USERS] = {"
    for one in everybody:
        yield f'\t[{one.constant}] = {{ "{one.name}", {one.uid}, {one.dropped:#x}ULL }},'
    yield "};"
    yield from _devices(recording, roles)


def _devices(recording: Recording, roles: Roles) -> Iterator[str]:
    """Yield the functions that the program is told, and what must be there besides."""
    for address, (role, _) in roles.options.items():
        yield f'static const char *{role} = "{address}";'
    yield "static const struct {\n\tconst char *role;\n\tconst char **address;\n\tbool sriov;"
    yield "\tconst char *driver;"
    yield "} devices[DEVICES + 1] = {"
    for address, (role, sriov) in roles.options.items():
        driver = roles.drivers.get(address)
        found = f'"{driver}"' if driver else "NULL"
        yield f'\t{{ "{role}", &{role}, {"true" if sriov else "false"}, {found} }},'
    yield "};"
    opened = [
        call.arguments.get("pathname")
        for call in recording.calls
        if call.name == "open" and not call.errno
    ]
    starved = any(call.failed_allocation for call in recording.calls)
    needs = [*(path for path in NODES if path in opened), *([FAIL_NTH] if starved else [])]
    named = ", ".join([*(f'"{path}"' for path in needs), "NULL"])
    yield f"static const char *const needs[] = {{ {named} }};"
    yield ""


def _passed(recording: Recording) -> bool:
    return recording.record.outcome.value in ("passed", "known")


__all__ = ["CannotWrite", "c_program", "role_options"]
