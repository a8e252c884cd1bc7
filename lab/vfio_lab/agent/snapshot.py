"""What is bound where and who holds what, read in one go.

Every scenario ends with this, in a guest that has run none of it yet: each feature of Python that
it does without is code that need not be translated.
"""

import os

PCI = "/sys/bus/pci/devices"
ID_BYTES = 16


def functions() -> list[dict[str, str]]:
    """Return every PCI function with its IDs and, by name, where its links lead."""
    return [function(bdf) for bdf in sorted(os.listdir(PCI))]


def function(bdf: str) -> dict[str, str]:
    """Return one PCI function; links that it lacks are empty."""
    folder = f"{PCI}/{bdf}"
    seen = {"bdf": bdf}
    for name in ("vendor", "device"):
        seen[name] = identity(f"{folder}/{name}")
    for name in ("driver", "iommu_group", "physfn"):
        seen[name] = link(f"{folder}/{name}").rpartition("/")[2]
    if cdevs := names(f"{folder}/vfio-dev"):
        seen["cdev"] = "".join(cdevs)
    return seen


def identity(path: str) -> str:
    """Return the number in a file of sysfs, such as `10c9`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, ID_BYTES).decode().strip().removeprefix("0x")
    finally:
        os.close(fd)


def descriptors(pid: int) -> dict[str, str]:
    """Return what a process has open, by descriptor; nothing if it is gone."""
    folder = f"/proc/{pid}/fd"
    return {fd: link(f"{folder}/{fd}") for fd in sorted(names(folder), key=int)}


def names(folder: str) -> list[str]:
    """Return what is in a folder, nothing if it is gone."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def link(path: str) -> str:
    """Return where a link leads, empty if there is none."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""
