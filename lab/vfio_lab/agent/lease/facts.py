"""The facts of a machine, and the reasons not to use one of its devices."""

import contextlib
import fcntl
import gzip
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

PCI = "/sys/bus/pci/devices"
NETWORK_CLASS = "0x02"
BRIDGE_CLASS = "0x06"
NO_DRIVER_OF_A_NIC = ("", "vfio-pci", "pci-stub", "uio_pci_generic")
IFF_UP = 1
SIOCGIFADDR = 0x8915


def look(bdf: str) -> dict[str, Any]:
    """Return the machine's kernel, the device's identity and the reasons not to use it."""
    system = os.uname()
    return {
        "machine": system.machine,
        "release": system.release,
        "built": system.version,
        "config": config(system.release),
        "pf": identity(bdf) if text(bdf, "sriov_totalvfs") else {},
        "objections": objections(bdf),
    }


def config(release: str) -> str:
    """Return the running kernel's configuration, empty if there is no copy of it."""
    with contextlib.suppress(OSError), gzip.open("/proc/config.gz", "rt") as file:
        return file.read()
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        with contextlib.suppress(OSError), open(path) as file:
            return file.read()
    return ""


def identity(bdf: str) -> dict[str, int]:
    """Return the IDs of the device and the number and IDs of its VFs."""
    names = {
        "vendor": "vendor",
        "device": "device",
        "total_vfs": "sriov_totalvfs",
        "offset": "sriov_offset",
        "stride": "sriov_stride",
        "vf_device": "sriov_vf_device",
    }
    hexadecimal = ("vendor", "device", "vf_device")
    return {
        key: int(text(bdf, name) or "0", 16 if key in hexadecimal else 10)
        for key, name in names.items()
    }


def objections(bdf: str) -> list[str]:
    """Return every reason not to use the device; none if it is free."""
    if os.geteuid():
        return [f"uid {os.geteuid()} may not bind drivers: log in as root, or allow sudo"]
    if not os.path.isdir(f"{PCI}/{bdf}"):
        return ["there is no such device"]
    if int(text(bdf, "sriov_totalvfs") or "0") == 0:
        return ["it is no SR-IOV PF"]
    enabled = int(text(bdf, "sriov_numvfs"))
    found = [f"{enabled} of its VFs are enabled"] if enabled else []
    return [*found, *grouping(bdf), *networking(bdf), *storing(bdf), *opened(bdf)]


def grouping(bdf: str) -> Iterator[str]:
    """Yield what is wrong with its IOMMU group, which must hold the device and no other."""
    members = f"{PCI}/{bdf}/iommu_group/devices"
    if not os.path.isdir(members):
        yield "it is in no IOMMU group: the machine's IOMMU is off"
        return
    for other in sorted(os.listdir(members)):
        if other != bdf and not text(other, "class").startswith(BRIDGE_CLASS):
            yield f"{other} is in its IOMMU group too"


def networking(bdf: str) -> Iterator[str]:
    """Yield each use of the device as a network card."""
    folder = f"{PCI}/{bdf}/net"
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    driver = os.path.basename(os.path.realpath(f"{PCI}/{bdf}/driver"))
    bound = driver if os.path.exists(f"{PCI}/{bdf}/driver") else ""
    is_nic = text(bdf, "class").startswith(NETWORK_CLASS)
    if is_nic and bound not in NO_DRIVER_OF_A_NIC and not names:
        yield f"it is on {bound}, and its network interface is in another namespace"
    for name in names:
        if int(text(bdf, f"net/{name}/flags"), 16) & IFF_UP:
            yield f"its network interface {name} is up"
        if addressed(name):
            yield f"its network interface {name} has an address"
        above = [one for one in os.listdir(f"{folder}/{name}") if one.startswith("upper_")]
        if above:
            yield f"its network interface {name} is part of {above[0].removeprefix('upper_')}"


def addressed(interface: str) -> bool:
    """Whether an interface has an address, up or down."""
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as file:
        if any(line.split()[-1] == interface for line in file):
            return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            fcntl.ioctl(handle, SIOCGIFADDR, struct.pack("256s", interface.encode()))
        except OSError:
            return False
    return True


def storing(bdf: str) -> Iterator[str]:
    """Yield which of its disks are in use: mounted, as swap, or as part of another device.

    The kernel refuses an exclusive open of such a disk. Source: block/bdev.c, bd_may_claim().
    """
    device = os.path.realpath(f"{PCI}/{bdf}") + "/"
    for name in sorted(os.listdir("/sys/class/block")):
        if any(path.startswith(device) for path in owners(f"/sys/class/block/{name}")):
            try:
                os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            except OSError as error:
                yield f"its disk {name} is in use ({error.strerror})"


def owners(block: str) -> list[str]:
    """Return the places of a disk in the device tree: several for a disk with several paths."""
    folder = os.path.realpath(block)
    above, found, below = folder.partition("/nvme-subsystem/")
    if not found:
        return [folder]
    subsystem = f"{above}{found}{below.partition('/')[0]}"
    return [os.path.realpath(f"{subsystem}/{name}") + "/" for name in os.listdir(subsystem)]


def opened(bdf: str) -> Iterator[str]:
    """Yield each process that has one of its device files open, of whatever kind."""
    nodes = {read(os.path.join(folder, "dev")) for folder, _, _ in os.walk(f"{PCI}/{bdf}/")}
    group = os.path.basename(os.path.realpath(f"{PCI}/{bdf}/iommu_group"))
    for path in (f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}"):
        with contextlib.suppress(OSError):
            nodes.add(numbers(os.stat(path).st_rdev))
    nodes.discard("")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if numbers(os.stat(f"/proc/{pid}/fd/{fd}").st_rdev) in nodes:
                    path = os.readlink(f"/proc/{pid}/fd/{fd}")
                    yield f"{path} is open in process {pid} ({read(f'/proc/{pid}/comm')})"


def numbers(device: int) -> str:
    """Return a device number as sysfs writes it."""
    return f"{os.major(device)}:{os.minor(device)}"


def text(bdf: str, attribute: str) -> str:
    """Return one of a device's attributes, empty if it has none of that name."""
    return read(f"{PCI}/{bdf}/{attribute}")


def read(path: str) -> str:
    """Return a small file's text, empty if there is none."""
    with contextlib.suppress(OSError), open(path) as file:
        return file.read().strip()
    return ""
