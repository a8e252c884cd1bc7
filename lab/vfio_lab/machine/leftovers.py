"""What a guest has, and what scenarios that ran in it one after another have left behind.

`Caretaker` closes and unbinds everything, then looks. Its calls are in no transcript.

Source: mm/vmstat.c (nr_foll_pin_*); Documentation/dev-tools/kmemleak.rst.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vfio_lab.client.call import Refusal
from vfio_lab.client.sysfs import DRIVERS, PciFunction
from vfio_lab.client.user import User
from vfio_lab.machine.base import TestMachine, start_user
from vfio_lab.machine.survey import read_files
from vfio_lab.util.deadline import Deadline, wait_until

CLOSES_WITHIN_S = 20.0
LOOKS_WITHIN_S = 60.0  # with all that the debug flavour looks at
RESCAN = "/sys/bus/pci/rescan"
MODULES = "/proc/modules"
FOLD_COUNTERS = "/proc/sys/vm/stat_refresh"  # counters of each CPU are added up when this is read
# What scenarios may set, by the part of its path that follows the function's folder.
SETTINGS = (
    "d3cold_allowed",
    "driver_override",
    "power/control",
    "reset_method",
    "sriov_drivers_autoprobe",
)
CAN_BE_SET = (
    "/sys/kernel/iommu_groups/*/type",
    "/sys/kernel/mm/hugepages/*/nr_hugepages",
    "/sys/module/iommufd/parameters/*",
    "/sys/module/vfio*/parameters/*",
    *(f"/sys/bus/pci/devices/*/{name}" for name in SETTINGS),
)
EVERYTHING = (
    "/dev/vfio/*",
    "/dev/vfio/devices/*",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/sys/kernel/tainted",
    "/proc/vmstat",
    "/proc/[0-9]*/exe",
    "/proc/[0-9]*/fd/*",
    "/sys/bus/pci/devices/*",
    "/sys/bus/pci/devices/*/driver",
    "/sys/class/vfio/*",
    "/sys/class/vfio-dev/*",
    "/sys/kernel/iommu_groups/*/devices/*",
    "/sys/module/*/refcnt",
    *CAN_BE_SET,
)
# Of these files the lines that matter, and what of them.
LINES: Mapping[str, re.Pattern[str]] = {
    "/proc/interrupts": re.compile(r"vfio\S*"),
    "/proc/iomem": re.compile(r"\S.*"),
}
PINS = re.compile(r"nr_foll_pin_(acquired|released) (\d+)")
OF_PROCESS = re.compile(r"/proc/\d+/")  # users in reserve, who are users when they are needed
OF_VFIO = re.compile(r"vfio|iommu|eventfd|dmabuf")
KMEMLEAK = "/sys/kernel/debug/kmemleak"
UPTIME = "/proc/uptime"
# kmemleak leaves out what is younger than five seconds, and what changed since the scan before.
OLD_ENOUGH_S = 6.0
AGES_WITHIN_S = 60.0
SCAN_TIMEOUT_S = 300.0
LEAK = re.compile(r'unreferenced object .*\n  comm "(?P<comm>.*)", pid (?P<pid>\d+)')
FRAME = re.compile(r"\b(?P<function>\w+)\+0x[0-9a-f]+/")
ALLOCATORS = re.compile(
    r"_*(?:k[mvz]\w*alloc|kmem_cache|kmemleak|slab|alloc_pages|create_object)\w*"
)
FRAMES_SHOWN = 3


@dataclass(frozen=True)
class Leak:
    """Memory that kmemleak says nothing refers to.

    Args:
        pid: the process that allocated it.
        where: the functions that allocated it, the innermost first.
        report: all that kmemleak says of it.
    """

    pid: int
    where: str
    report: str


@dataclass
class Caretaker:
    """Puts a guest back in order between scenarios, and says what cannot be.

    Args:
        machine: the guest.
        user: the process that does it.
        at_first: what the guest had when nobody had used it.
    """

    machine: TestMachine
    user: User
    at_first: Mapping[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()

    @classmethod
    def of(cls, machine: TestMachine) -> Caretaker:
        """Return a caretaker that knows what a pristine machine has."""
        caretaker = cls(machine, start_user(machine.channel, "caretaker"))
        caretaker.modules = frozenset(caretaker.loaded())
        caretaker.at_first = caretaker.look()
        caretaker._scan_for_leaks("clear")
        return caretaker

    def tidy(self) -> None:
        """End all users, remove VFs, unbind devices, and restore modules and settings.

        Raises:
            LabError: a user does not end, or the kernel refuses to let go of something.
        """
        self._end_users()
        devices = self._devices()
        if not all(device.present for device in devices):
            self.user.write_file(RESCAN, "1")
        for device in (one for one in devices if one.present):
            self._release(device)
        loaded = self.loaded()
        for module in (one for one in loaded if one not in self.modules):
            self.user.run("rmmod", module)
        for module in self.modules - set(loaded):
            self.user.run("modprobe", module)
        for module in self._restore_settings():
            self._reload(module)

    def left(self) -> list[str]:
        """Return what the machine has or lacks in comparison with the time before its first use."""
        return difference(self.at_first, self.look())

    def look(self) -> dict[str, str]:
        """Return what the machine has now."""
        self.user.run("cat", FOLD_COUNTERS)
        return contents(self._read(EVERYTHING), self.user.pid)

    def leaks(self) -> list[Leak]:
        """Return what kmemleak finds, if the kernel has it."""
        return [] if not self._has_kmemleak else parse_leaks(self._scan_for_leaks("scan"))

    def loaded(self) -> list[str]:
        """Return the loaded modules; one that needs another comes before it."""
        return [line.split()[0] for line in self.user.read_file(MODULES).splitlines()]

    def _end_users(self) -> None:
        answer = self.machine.ask("snapshot", "see who is there", folder=RESCAN.rpartition("/")[0])
        others = [int(pid) for pid in answer["descriptors"] if int(pid) != self.user.pid]
        channel = self.machine.channel
        ending = [User(channel, pid, f"pid {pid}").start_kill() for pid in others]
        for each in ending:
            each.wait(Deadline.after(CLOSES_WITHIN_S))

    def _devices(self) -> list[PciFunction]:
        functions = self.machine.machine.topology.endpoints
        return [PciFunction(each.bdf, self.user) for each in functions]

    def _release(self, device: PciFunction) -> None:
        """Remove a device's VFs, and give it the driver that it had at first."""
        if self.user.exists(f"{device.path}/sriov_numvfs") and device.numvfs:
            if device.driver == "vfio-pci":
                device.unbind()  # removes them, even where enable_sriov is off by now
            else:
                device.write("sriov_numvfs", 0)
        driver = self.at_first.get(f"{device.path}/driver", "").rpartition("/")[2] or None
        if device.driver != driver:
            device.unbind()
            if driver is not None:
                device.write("driver_override", "")  # which may name another driver
                self.user.write_file(f"{DRIVERS}/{driver}/bind", str(device))

    def _restore_settings(self) -> set[str]:
        """Write settings back; return the modules that refuse, for they take them when loaded."""
        refused = set()
        for path, text in self._read(CAN_BE_SET).items():
            before = self.at_first.get(path, text.strip())
            if before == text.strip():
                continue
            try:
                self.user.write_file(path, "" if before == "(null)" else before)
            except Refusal:
                refused.add(path)
        return {path.split("/")[3] for path in refused if path.startswith("/sys/module/")}

    def _read(self, paths: Sequence[str]) -> dict[str, str]:
        return read_files(self.machine.channel, self.user, paths, LOOKS_WITHIN_S)

    def _reload(self, module: str) -> None:
        self.user.run("rmmod", module)
        self.user.run("modprobe", module)

    @property
    def _has_kmemleak(self) -> bool:
        return self.machine.machine.kernel.option("DEBUG_KMEMLEAK") == "y"

    def _scan_for_leaks(self, last: str) -> str:
        """Let kmemleak look twice at what is old enough; then do `last`, and return the report."""
        if not self._has_kmemleak:
            return ""
        begun = self._uptime_s()
        self._write(KMEMLEAK, "scan")
        deadline = Deadline.after(AGES_WITHIN_S)
        wait_until("age", lambda: self._uptime_s() > begun + OLD_ENOUGH_S, deadline)
        self._write(KMEMLEAK, "scan")
        self._write(KMEMLEAK, last)
        return self.user.read_file(KMEMLEAK)

    def _write(self, path: str, text: str) -> None:
        self.user.start_write_file(path, text).wait(SCAN_TIMEOUT_S)

    def _uptime_s(self) -> float:
        return float(self.user.read_file(UPTIME).split()[0])


def unload_vfio(caretaker: Caretaker) -> list[str]:
    """Unload vfio and iommufd; return what cannot be unloaded."""
    left = []
    for module in caretaker.loaded():
        if re.match(r"vfio|iommufd", module):
            done = caretaker.user.run("rmmod", module)
            left += [done.stderr.strip()] if done.exit else []
    return left


def contents(files: Mapping[str, str], caretaker: int) -> dict[str, str]:
    """Return what a machine has: text by path, lines and pins apart.

    Args:
        files: what was read, by path.
        caretaker: the process that reads, which is no part of it.
    """
    found: dict[str, str] = {}
    for path, text in files.items():
        match path.split("/")[1:]:
            case ["proc", "interrupts" | "iomem"]:
                found |= {f"{path}: {line}": "" for line in LINES[path].findall(text)}
            case ["proc", "vmstat"]:
                pins = {name: int(count) for name, count in PINS.findall(text)}
                found["pinned pages"] = str(pins.get("acquired", 0) - pins.get("released", 0))
            case ["proc", pid, *_] if pid.isdigit():
                if int(pid) != caretaker and _counts(path, text):
                    found[path] = text
            case _ if not text.startswith("errno "):
                found[path] = text.strip()
    return found


def _counts(path: str, text: str) -> bool:
    """Return whether a file of a process tells of a program, or of an open file of vfio."""
    if path.endswith("/exe"):
        return text.startswith("-> /")  # a kernel thread has no program
    return bool(OF_VFIO.search(text))


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return in words what two such contents differ in, sorted."""
    return sorted(_differences(before, after))


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for path in before.keys() | after.keys():
        if path not in after:
            if not OF_PROCESS.match(path):
                yield f"{path} is missing"
        elif path not in before:
            yield f"{path} {after[path]}".strip()
        elif before[path] != after[path]:
            yield f"{path}: {before[path]} at first, now {after[path]}"


def parse_leaks(text: str) -> list[Leak]:
    """Return the leaks in a report of kmemleak."""
    starts = [found.start() for found in LEAK.finditer(text)]
    return [_leak(text[at:end]) for at, end in itertools.pairwise([*starts, len(text)])]


def _leak(report: str) -> Leak:
    match = LEAK.match(report)
    assert match is not None, report
    called = (frame["function"] for frame in FRAME.finditer(report))
    where = [one for one in called if not ALLOCATORS.fullmatch(one)][:FRAMES_SHOWN]
    return Leak(int(match["pid"]), " < ".join(where), report)
