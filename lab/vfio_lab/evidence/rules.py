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
        re.compile(r"\btook \d+ usecs"),
        "",
        "the PCI core reports a quirk that took long, which depends on the speed of the host",
    ),
)
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
# A user's address space is laid out at random: an address is an offset into a mapping.
LOWEST_RANDOM_ADDRESS = 1 << 32

# Files of the survey, by the part of them that is compared; the first pattern that fits decides.
VFIO_LINES = re.compile(r"vfio", re.IGNORECASE)
DESCRIPTOR_LINES = re.compile(r"vfio|eventfd-count")
PINNED = re.compile(r"Vm(?:Lck|Pin):")
BY_LINE = (
    # Counts of interrupts and who else has some depend on time; that vfio has one does not.
    (re.compile(r"/proc/interrupts"), VFIO_LINES),
    # What the guest's own drivers claim is not behaviour of vfio.
    (re.compile(r"/proc/iomem"), VFIO_LINES),
    # Of a process only what it pins: its memory and its times are its own.
    (re.compile(r"/proc/.+/status"), PINNED),
    # Inode numbers and mount IDs are given out in turn.
    (re.compile(r"/proc/.+/fdinfo/\d+"), DESCRIPTOR_LINES),
)
# The lab's own switch, see vfio_lab.campaign.silent, and where hardware happens to be.
NOT_COMPARED = re.compile(r"/sys/module/vfio/parameters/fault")
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


def state_text(path: str, text: str) -> str | None:
    """Return what is compared of a surveyed file, None if that is nothing."""
    if NOT_COMPARED.fullmatch(path):
        return None
    for pattern, wanted in BY_LINE:
        if pattern.fullmatch(path):
            kept = [line for line in text.splitlines() if wanted.search(line)]
            lines = sorted(INTERRUPT_COUNTS.sub("", line).strip() for line in kept)
            return plain_text("\n".join(lines)) or None
    return plain_text(text.rstrip("\n"))
