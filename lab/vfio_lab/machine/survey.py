"""What a guest's kernel shows of itself at one moment, whether a scenario reads it or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vfio_lab.client.channel import Channel
from vfio_lab.client.user import User
from vfio_lab.machine.state import PciState
from vfio_lab.util.deadline import Deadline

SURVEY_TIMEOUT_S = 5.0
# Drivers of what belongs to the guest and not to the scenario.
HOUSEKEEPING = frozenset({"virtio-pci", "pvpanic-pci", "pcieport"})
# fmt: off
ATTRIBUTES = (
    "ari_enabled", "broken_parity_status", "config", "consistent_dma_mask_bits", "d3cold_allowed",
    "dma_mask_bits", "driver", "driver_override", "enable", "iommu_group", "irq", "msi_bus",
    "msi_irqs/*", "physfn", "power/control", "power/runtime_status", "power_state",
    "reset_method", "resource",
    "sriov_drivers_autoprobe", "sriov_numvfs", "sriov_offset", "sriov_stride", "sriov_totalvfs",
    "sriov_vf_device", "uevent", "vfio-dev/*", "vfio-dev/*/dev", "vfio-dev/*/uevent", "virtfn*",
)
# fmt: on
ELSEWHERE = (
    "/dev/iommu",
    "/dev/vfio/*",
    "/dev/vfio/devices/*",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/sys/kernel/tainted",
    "/sys/bus/pci/drivers/vfio-pci/0000:*",
    "/sys/class/vfio/*",
    "/sys/class/vfio/*/uevent",
    "/sys/class/vfio-dev/*",
    "/sys/kernel/debug/vfio/*/*",
    "/sys/kernel/debug/vfio/*/*/*",
    "/sys/kernel/iommu_groups/*/devices/*",
    "/sys/kernel/iommu_groups/*/name",
    "/sys/kernel/iommu_groups/*/reserved_regions",
    "/sys/kernel/iommu_groups/*/type",
    "/sys/module/iommufd/refcnt",
    "/sys/module/vfio*/parameters/*",
    "/sys/module/vfio*/refcnt",
)
PROCESS = ("status", "fdinfo/*")


def survey(
    channel: Channel, surveyor: User, functions: Iterable[PciState], users: Mapping[int, str]
) -> dict[str, str]:
    """Return files by their paths: a link's target, a device file's mode, any other's content.

    Content that is no text is in hex, and of a file that cannot be read there is the errno. Users
    are called by their names in /proc.

    Args:
        channel: the agent.
        surveyor: a user that holds nothing.
        functions: all PCI functions; those that belong to the scenario are looked at.
        users: names by pid.
    """
    folders = [
        f"/sys/bus/pci/devices/{one.bdf}" for one in functions if one.driver not in HOUSEKEEPING
    ]
    paths = [f"{folder}/{name}" for folder in folders for name in ATTRIBUTES]
    paths += [*ELSEWHERE, *(f"/proc/{pid}/{name}" for pid in users for name in PROCESS)]
    found = read_files(channel, surveyor, paths)
    return {_by_name(path, users): text for path, text in found.items()}


def read_files(
    channel: Channel, reader: User, paths: Sequence[str], timeout_s: float = SURVEY_TIMEOUT_S
) -> dict[str, str]:
    """Return files by their paths, as `survey` does.

    Args:
        channel: the agent.
        reader: the user that reads them.
        paths: patterns of paths.
        timeout_s: how long it may take.

    Raises:
        LabError: it does not answer.
    """
    pending = [
        channel.start(reader.pid, "survey", "read state", paths=part) for part in _parts(paths)
    ]
    deadline = Deadline.after(timeout_s)
    found: dict[str, str] = {}
    for each in pending:
        found |= {one["path"]: _content(one) for one in each.wait(deadline)["files"]}
    return found


def _by_name(path: str, users: Mapping[int, str]) -> str:
    """Return a path in which a process is called by its user's name."""
    match path.split("/"):
        case ["", "proc", pid, *rest] if pid.isdigit():
            return "/".join(["", "proc", users[int(pid)], *rest])
    return path


def _parts(paths: Sequence[str], size: int = 250) -> list[Sequence[str]]:
    """Return the paths in parts that the agent takes."""
    return [paths[start : start + size] for start in range(0, len(paths), size)]


def _content(file: Mapping[str, Any]) -> str:
    if "text" in file:
        return f"-> {file['text']}"
    if "errno" in file:
        return f"errno {file['errno']}"
    raw = bytes.fromhex(file.get("data", ""))
    return raw.decode() if raw.isascii() and b"\0" not in raw else raw.hex()
