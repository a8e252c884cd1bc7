"""A guest's state at one moment: PCI functions, drivers, groups and open descriptors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfio_lab.client.transcript import Entry
from vfio_lab.errors import AgentError

DEVICE_FILE = "anon_inode:[vfio-device]"
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
GET_DEVICE_FD = "VFIO_GROUP_GET_DEVICE_FD"
NAME = re.compile(r'"([^" ]+)')
# Files that a process has open because it is one of the agent's.
OWN = ("socket:", "pipe:", "anon_inode:[pidfd]", "/dev/null", "/dev/console", "/dev/vport")


@dataclass(frozen=True)
class PciState:
    """A PCI function of the guest.

    Args:
        bdf: its address.
        vendor: four hex digits.
        device: four hex digits.
        driver: the bound driver's name, empty if unbound.
        iommu_group: its group's number, empty if it has none.
        physfn: its PF's address, empty if it is no VF.
        cdev: its vfio character device's name, empty if it has none.
    """

    bdf: str
    vendor: str
    device: str
    driver: str
    iommu_group: str
    physfn: str
    cdev: str = ""


@dataclass(frozen=True)
class OpenFile:
    """A descriptor of a user.

    Args:
        user: its name.
        fd: the descriptor.
        what: the file; for a device that came from a group, its address.
    """

    user: str
    fd: int
    what: str


@dataclass(frozen=True)
class Snapshot:
    """The state of a guest at one moment."""

    functions: tuple[PciState, ...]
    held: tuple[OpenFile, ...]


def read_state(path: Path) -> Snapshot | None:
    """Return the snapshot in an evidence folder's file, None if there is none."""
    try:
        data = json.loads(path.read_text())
        functions = tuple(PciState(**one) for one in data["functions"])
        return Snapshot(functions, tuple(OpenFile(**one) for one in data["held"]))
    except (OSError, *MALFORMED):
        return None


def snapshot(
    answer: Mapping[str, Any], names: Mapping[int, str], transcript: Iterable[Entry]
) -> Snapshot:
    """Return the agent's snapshot with the users' names in place of pids.

    Args:
        answer: the agent's.
        names: of users, by pid.
        transcript: maps descriptors to devices; kernels before 7.x do not expose this.

    Raises:
        AgentError: the answer is no snapshot.
    """
    try:
        return _snapshot(answer, names, _devices(transcript))
    except MALFORMED as error:
        raise AgentError(
            "the agent's snapshot is malformed", expected="functions, and open files by pid"
        ) from error


def _snapshot(
    answer: Mapping[str, Any], names: Mapping[int, str], devices: Mapping[tuple[str, str], str]
) -> Snapshot:
    held = []
    for pid, descriptors in answer["descriptors"].items():
        user = names.get(int(pid), f"pid {pid}")
        for fd, file in sorted(descriptors.items(), key=lambda item: int(item[0])):
            if file and not file.startswith(OWN):
                what = devices.get((user, fd), file) if file == DEVICE_FILE else file
                held.append(OpenFile(user, int(fd), what))
    functions = sorted(answer["functions"], key=lambda one: str(one["bdf"]))
    return Snapshot(tuple(PciState(**one) for one in functions), tuple(held))


def _devices(transcript: Iterable[Entry]) -> dict[tuple[str, str], str]:
    """Return the address of each device that came from a group, by user and descriptor."""
    return {
        (entry.user, entry.result): name[1]
        for entry in transcript
        if entry.call == GET_DEVICE_FD and (name := NAME.search(entry.arguments))
    }
