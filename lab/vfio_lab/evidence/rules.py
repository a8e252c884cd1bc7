"""What is left out of behaviour, or given a name, because it differs between equal kernels.

Every rule has its reason beside it. `vfio_lab.evidence.observed` applies them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TextRule:
    """Text that says the same on every run once a part of it is replaced.

    Args:
        pattern: the part.
        to: what stands in its place.
        reason: why the part differs.
    """

    pattern: re.Pattern[str]
    to: str
    reason: str


TEXT = (
    TextRule(
        re.compile(r"\b(?:0x)?[0-9a-f]{16}\b"),
        "ADDRESS",
        "the kernel places itself and its objects at random, and hashes the pointers it prints",
    ),
    TextRule(
        re.compile(r"(?<=/proc/)\d+"), "PID", "users are numbered in the order they are started"
    ),
    TextRule(
        re.compile(r"(?<=\bPID: )\d+|(?<=\bpid[ :=])\d+|(?<=\w:)\d+(?=\))"),
        "PID",
        "the kernel logs the number of the process that called",
    ),
    TextRule(
        re.compile(r"(?<=voluntary_ctxt_switches:)\s*\d+"),
        " COUNT",
        "how often a task was switched depends on the load of the host",
    ),
    TextRule(
        re.compile(r"(?<=\w\[)\d+(?=\]: (?:segfault|traps?) )|(?<=\w\[)\d+(?=\] )"),
        "PID",
        "a signal that kills a process is logged with its number",
    ),
    TextRule(
        re.compile(r"(?<=segfault at )[0-9a-f]+|(?<= in agent\[)[0-9a-f,+]+"),
        "ADDRESS",
        "a user's address space is laid out at random",
    ),
    TextRule(
        re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"),
        "MAC",
        "a VF without an address of its own gets a random one",
    ),
    TextRule(
        re.compile(r"(?<=\bkvm \[)\d+|(?<=\" \()\d+(?=\) blocked)"),
        "PID",
        "the kernel logs the number of the process that it is about",
    ),
    TextRule(
        re.compile(r"\bCPU#\d+: ([^\s/]+)/\d+"),
        r"CPU: \1/PID",
        "the scheduler chooses the processor, and users are numbered in the order they are started",
    ),
    TextRule(
        re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+|(?<=\.[ch]):\d+\b"),
        "",
        "where in a function or in a file something happens follows from what was compiled",
    ),
    TextRule(re.compile(r"\bCPU: \d+\b"), "CPU", "the scheduler chooses the processor"),
    TextRule(
        re.compile(r"(?<=/dev/vfio/)(?:noiommu-)?\d+|(?<=/dev/vfio/devices/)(?:noiommu-)?vfio\d+"),
        "NODE",
        "a node's name follows from an answer, which is compared itself",
    ),
)
# Lines of the log that come or stay away by chance.
FLEETING_LINES = (
    TextRule(
        re.compile(r"callbacks suppressed"),
        "",
        "a rate limit ends by the clock: whether it speaks depends on the speed of the host",
    ),
    TextRule(
        re.compile(
            r"^\w+: (?: \S.*|-+\[ cut here \]-+|---\[ end .*"
            r"|(?:Code|RIP|RSP|R\w\w|CR2|FS|CS): .*|PGD .*|CPU(?:: \d+)? .*\bComm: .*"
            r"|Tainted: .*|Modules linked in: .*|Hardware name: .*"
            r"|Call Trace:)$"
        ),
        "",
        "a report of the kernel is compared by its first line: registers, offsets and what is on "
        "the stack follow from what was compiled",
    ),
    TextRule(
        re.compile(r"hrtimer: interrupt took|[Cc]locksource|TSC clocksource"),
        "",
        "the kernel looks at its clocks now and then",
    ),
    TextRule(
        re.compile(r"\btook \d+ usecs"),
        "",
        "the PCI core reports a quirk that took long, which depends on the speed of the host",
    ),
)
# Of these lines the kernel logs ten in 5 seconds (DEFAULT_RATELIMIT_BURST): how many more there are
# depends on the speed of the host.
RATE_LIMITED = re.compile(
    r"VF token |runtime resume failed|Relaying device request|DMAR: |AMD-Vi: |fault from EP \d"
)
LOGGED_AT_MOST = 10
# Arguments that only say how long the lab is ready to wait.
WAITING_ARGUMENTS = frozenset({"timeout", "timeout_ms", "last_words"})
# The number of an ioctl says nothing that its name does not.
REDUNDANT_ARGUMENTS = frozenset({"request"})
# Programs tell of times, addresses, MAC addresses and of other programs' noise.
PROGRAM_OUTPUT = frozenset({"stdout", "stderr"})

UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")  # tokens are random
BDF = re.compile(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b")

# Where a descriptor came from is its name: its number depends on what else is open.
DESCRIPTORS = frozenset({"fd", "oldfd", "iommufd", "group_fds"})
OPENED = (
    (re.compile(r"/dev/vfio/vfio"), "container"),
    (re.compile(r"/dev/vfio/devices/.*"), "device"),
    (re.compile(r"/dev/vfio/.*"), "group"),
    (re.compile(r"/dev/iommu"), "iommufd"),
    (re.compile(r".*/config"), "config"),
)
CALLS_THAT_OPEN: Mapping[str, str] = {
    "VFIO_GROUP_GET_DEVICE_FD": "device",
    "eventfd2": "eventfd",
}
# Waits look at where a task sleeps until it is there: how often depends on the host's speed, and
# the scenario asserts that it is.
WHERE_TASKS_SLEEP = re.compile(r"/proc/(?:\d+|PID)/(?:stack|status)")
# Bits of registers, by region and offset. Half a second into a clone QEMU ends the autonegotiation
# of an e1000e, and sets LSC in the cause of interrupts (ICR).
UNSTEADY_BITS: Mapping[tuple[str, int], int] = {("bar0", 0xC0): 0x04}
# A user's address space is laid out at random: an address is an offset into a mapping.
LOWEST_RANDOM_ADDRESS = 1 << 32

# Files of the survey, by the part of them that is compared; the first pattern that fits decides.
VFIO_LINES = re.compile(r"vfio", re.IGNORECASE)
DESCRIPTOR_LINES = re.compile(r"vfio|eventfd-count")
PINNED = re.compile(r"Vm(?:Lck|Pin):")
NOTHING = re.compile(r"(?!)")
BY_LINE = (
    # Counts of interrupts and who else has some depend on time; that vfio has one does not.
    (re.compile(r"/proc/interrupts"), VFIO_LINES),
    # What the guest's own drivers claim is not behaviour of vfio.
    (re.compile(r"/proc/iomem"), VFIO_LINES),
    # Of a process only what it pins: its number, its memory and its times are its own.
    (re.compile(r"/proc/.+/status"), PINNED),
    # Times, page faults and addresses, free memory and clock rates, and nothing of vfio.
    (re.compile(r"/proc/(?:.+/stat|cpuinfo|meminfo)"), NOTHING),
    # Inode numbers and mount IDs are given out in turn.
    (re.compile(r"/proc/.+/fdinfo/\d+"), DESCRIPTOR_LINES),
)
# The lab's own switch, see vfio_lab.campaign.silent, and where hardware happens to be.
NOT_COMPARED = re.compile(r"/sys/module/vfio/parameters/fault")


@dataclass(frozen=True)
class ScenarioRule:
    """Differences that come by chance in some scenarios.

    Args:
        scenarios: pattern that is found in their node IDs.
        kinds: of the differences, as for `vfio_lab.evidence.deviations.Deviation`.
        reason: why they come.
        subjects: pattern that is found in what differs.
    """

    scenarios: re.Pattern[str]
    kinds: frozenset[str]
    reason: str
    subjects: re.Pattern[str] = re.compile("")


IN_SCENARIOS = (
    ScenarioRule(
        re.compile(r"test_a_device_is_free_after_its_use\[a close during a reset"),
        frozenset({"write", "log"}),
        "a close resets the device only if the reset under way has let go of its lock",
    ),
    ScenarioRule(
        re.compile(r"test_devices_that_are_removed_at_once_are_asked_for_one_by_one"),
        frozenset({"call", "log", "state", "write"}),
        "any of the devices may be the first; the others fall asleep meanwhile, or have no time to",
    ),
    ScenarioRule(
        re.compile(
            r"device/test_low_power|low_power_entry|sriov/test_power|sysfs/test_readers"
            r"|noiommu/test_(?:switch|sriov)|memory/test_binding|selftest_passes"
        ),
        frozenset({"write"}),
        "a device that is idle falls asleep a moment later, and is woken or has not slept",
    ),
    ScenarioRule(
        re.compile(r"noiommu/test_(?:reach|address_space)"),
        frozenset({"call", "log"}),
        "a user's memory is anywhere in the machine's",
        re.compile(r"iova|out_phys|length|pread64|DMAR"),
    ),
    ScenarioRule(
        re.compile(r"test_an_ioas_chooses_an_address"),
        frozenset({"call"}),
        "the address is aligned as the user's memory is, which is at a random place",
        re.compile(r"\.iova$"),
    ),
    ScenarioRule(
        re.compile(r"test_the_kernel_reads_options_as_the_grammar_says"),
        frozenset({"call", "log"}),
        "Hypothesis draws some of the words from the modules that are loaded",
    ),
    ScenarioRule(
        re.compile(r"scenarios/races/"),
        frozenset({"log"}),
        "a user is asked for a device that is in use until the race ends, or not even once",
        re.compile(r"No device request channel registered"),
    ),
    ScenarioRule(
        re.compile(r"test_the_driver_selftest_passes"),
        frozenset({"log"}),
        "a device goes on writing for a moment after its memory is unmapped",
        re.compile(r"DMAR"),
    ),
    ScenarioRule(
        re.compile(r"test_a_signal_does_not_end_the_wait"),
        frozenset({"call"}),
        "the user ends before or after the scenario does",
        re.compile(r"sriov_numvfs"),
    ),
)
INTERRUPT_COUNTS = re.compile(r"^\s*\d+:(?:\s+\d+)+\s+")  # the number and the counts in a line

# What vfio or the PCI core change on purpose shows in configuration space; what a bridge and the
# guest's own devices are told depends on hotplug events and timers.
NOT_UNDER_TEST = re.compile(r"virtio|pcie-root-port|pvpanic|ioh3420|x3130|xio3130|pcie-pci-bridge")


def plain_text(text: str) -> str:
    """Return text with what differs between runs replaced."""
    for rule in TEXT:
        text = rule.pattern.sub(rule.to, text)
    return text


def log_line(line: str) -> str | None:
    """Return a line of the log as it is compared, None if it comes by chance."""
    if any(rule.pattern.search(line) for rule in FLEETING_LINES):
        return None
    return plain_text(line)


def steady_count(line: str, count: int) -> int:
    """Return how often a line was logged, as far as it is compared.

    Args:
        line: the line.
        count: how often.
    """
    return min(count, LOGGED_AT_MOST) if RATE_LIMITED.search(line) else count


def steady_bytes(region: str, offset: int, data: str) -> str:
    """Return what was read from a region of a device, in hex, without bits that change by chance.

    Args:
        region: its name.
        offset: of the first byte.
        data: the bytes, without zeros at the end.
    """
    if not re.fullmatch(r"(?:[0-9a-f]{2})*", data):
        return data  # an old record, in which some bytes were taken for an address
    raw = bytearray.fromhex(data)
    for (name, at), bits in UNSTEADY_BITS.items():
        if name == region and 0 <= at - offset < len(raw):
            raw[at - offset] &= ~bits & 0xFF
    return raw.rstrip(b"\0").hex()


def left_out(scenario: str, kind: str, subject: str) -> bool:
    """Whether a difference is left out in a scenario.

    Args:
        scenario: its node ID.
        kind: as for `vfio_lab.evidence.deviations.Deviation`.
        subject: likewise.
    """
    return any(
        kind in rule.kinds and rule.scenarios.search(scenario) and rule.subjects.search(subject)
        for rule in IN_SCENARIOS
    )


def state_text(path: str, text: str) -> str | None:
    """Return what is compared of a surveyed file, None if that is nothing."""
    if NOT_COMPARED.fullmatch(path):
        return None
    for pattern, wanted in BY_LINE:
        if pattern.fullmatch(path):
            kept = [line for line in text.splitlines() if wanted.search(line)]
            lines = sorted(" ".join(INTERRUPT_COUNTS.sub("", line).split()) for line in kept)
            return plain_text("\n".join(lines)) or None
    return plain_text(text.rstrip("\n"))
