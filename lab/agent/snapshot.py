"""What is bound where and who holds what, read in one go."""

import contextlib
import os

PCI = "/sys/bus/pci/devices"


def functions() -> list[dict[str, str]]:
    """Return every PCI function with its IDs and, by name, where its links lead."""
    return [function(bdf) for bdf in sorted(os.listdir(PCI))]


def function(bdf: str) -> dict[str, str]:
    """Return one PCI function; links that it lacks are empty."""
    folder = f"{PCI}/{bdf}"
    seen = {"bdf": bdf}
    for name in ("vendor", "device"):
        with open(f"{folder}/{name}") as file:
            seen[name] = file.read().strip().removeprefix("0x")
    for name in ("driver", "iommu_group", "physfn"):
        seen[name] = os.path.basename(link(f"{folder}/{name}"))
    with contextlib.suppress(FileNotFoundError):
        seen["cdev"] = "".join(os.listdir(f"{folder}/vfio-dev"))
    return seen


def descriptors(pid: int) -> dict[str, str]:
    """Return what a process has open, by descriptor; nothing if it is gone."""
    folder = f"/proc/{pid}/fd"
    try:
        return {fd: link(f"{folder}/{fd}") for fd in sorted(os.listdir(folder), key=int)}
    except FileNotFoundError:
        return {}


def link(path: str) -> str:
    """Return where a link leads, empty if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(path)
    return ""
