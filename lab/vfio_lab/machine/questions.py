"""What the kernel answers about files that are open at the end, asked by the users who hold them.

A scenario asks what it needs. The lab asks the rest: each device for its information, regions,
interrupts, hot reset and configuration space, each group and container for its own.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vfio_lab.client.call import Buffer, Refusal
from vfio_lab.client.transcript import Entry
from vfio_lab.client.user import PendingCall, User
from vfio_lab.machine.state import DEVICE_FILE, OpenFile
from vfio_lab.uapi import vfio, vfio_type1

ANSWER_TIMEOUT_S = 5.0
BDF = r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
CONFIG_OFFSET = vfio.VFIO_PCI_CONFIG_REGION_INDEX << 40
CONFIG_BYTES = 4096
ROOM = 256
EXTENSIONS = range(1, 12)
DEVICE = re.compile(rf"{re.escape(DEVICE_FILE)}|{BDF}")
GROUP = re.compile(r"/dev/vfio/(noiommu-)?\d+")
CONTAINER = "/dev/vfio/vfio"
# By name the request, and the indexes to ask about, which follow the flags in the argument.
OF_DEVICES = {
    "VFIO_DEVICE_GET_INFO": (vfio.VFIO_DEVICE_GET_INFO, range(1)),
    "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO": (vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, range(1)),
    "VFIO_DEVICE_GET_REGION_INFO": (
        vfio.VFIO_DEVICE_GET_REGION_INFO,
        range(vfio.VFIO_PCI_NUM_REGIONS),
    ),
    "VFIO_DEVICE_GET_IRQ_INFO": (vfio.VFIO_DEVICE_GET_IRQ_INFO, range(vfio.VFIO_PCI_NUM_IRQS)),
}


def ask_about(held: Iterable[OpenFile], users: Iterable[User]) -> list[Entry]:
    """Ask about each open file, as the user who holds it; return the calls.

    Args:
        held: the open descriptors; of two for one device one is asked.
        users: those that can be asked; none is in a call.

    Raises:
        LabError: one does not answer.
    """
    entries: list[Entry] = []
    by_name = {user.name: replace(user, record=entries.append) for user in users}
    files = {(one.user, one.what): one for one in held if one.user in by_name}
    pending = [
        call for one in files.values() for call in _questions(by_name[one.user], one.fd, one.what)
    ]
    for each in pending:
        with contextlib.suppress(Refusal):
            each.wait(ANSWER_TIMEOUT_S)
    return entries


def _questions(user: User, fd: int, what: str) -> Iterator[PendingCall]:
    """Start the calls that ask about a file."""
    if DEVICE.fullmatch(what):
        for name, (request, indexes) in OF_DEVICES.items():
            yield from (_ask(user, fd, name, request, index) for index in indexes)
        config = Buffer(bytes(CONFIG_BYTES), out=True)
        yield user.start("pread64", fd, config, CONFIG_BYTES, CONFIG_OFFSET)
    elif GROUP.fullmatch(what):
        yield _ask(user, fd, "VFIO_GROUP_GET_STATUS", vfio.VFIO_GROUP_GET_STATUS)
    elif what == CONTAINER:
        yield _ask(user, fd, "VFIO_IOMMU_GET_INFO", vfio_type1.VFIO_IOMMU_GET_INFO)
        check = vfio.VFIO_CHECK_EXTENSION
        yield from (
            user.start("ioctl", fd, check, extension, label="VFIO_CHECK_EXTENSION")
            for extension in EXTENSIONS
        )


def _ask(user: User, fd: int, name: str, request: int, index: int = 0) -> PendingCall:
    asked = struct.pack("<III", ROOM, 0, index).ljust(ROOM, b"\0")
    return user.start("ioctl", fd, request, Buffer(asked, out=True), label=name)
