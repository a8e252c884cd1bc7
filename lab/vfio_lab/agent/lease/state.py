"""The state of a device before the lease, and how to restore it."""

import contextlib
import os
import subprocess

from .facts import PCI, read

DRIVERS = "/sys/bus/pci/drivers"
# In the order in which they are restored, while no driver is bound to the device.
ATTRIBUTES = ("reset_method", "d3cold_allowed", "power/control", "sriov_drivers_autoprobe")
PARAMETERS = "/sys/module/vfio_pci/parameters"
MODULES = ("vfio-pci", "vfio_iommu_type1")
ABSENT = "(null)"


class State:
    """A device's driver and settings, and the vfio modules that were loaded.

    Args:
        bdf: the device.
    """

    def __init__(self, bdf: str) -> None:
        self.folder = f"{PCI}/{bdf}"
        self.bdf = bdf
        self.driver = self.bound()
        self.override = read(f"{self.folder}/driver_override")
        self.attributes = {name: read(f"{self.folder}/{name}") for name in ATTRIBUTES}
        self.modules = [name for name in MODULES if loaded(name)]
        self.parameters = parameters()
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Load the modules that every scenario expects.

        Raises:
            OSError: modprobe failed.
        """
        done = subprocess.run(["modprobe", "-a", *MODULES], capture_output=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.decode(errors="replace").strip())
        self.parameters = {**parameters(), **self.parameters}

    def restore(self) -> list[str]:
        """Restore everything; return what could not be restored."""
        if not os.path.isdir(self.folder):
            return [f"{self.bdf} is gone: a rescan or a reboot may bring it back"]
        if read(f"{self.folder}/sriov_numvfs") != "0":
            self.write(f"{self.folder}/sriov_numvfs", "0")
        if (driver := self.bound()) and (driver != self.driver or self.changed()):
            self.write(f"{DRIVERS}/{driver}/unbind", self.bdf)
        for name, value in self.attributes.items():
            if read(f"{self.folder}/{name}") != value:
                self.write(f"{self.folder}/{name}", value)
        if self.changed():
            self.write(f"{self.folder}/driver_override", override(self.override))
        if self.driver and self.bound() != self.driver:
            self.give_back()
        for path, value in self.parameters.items():
            if os.path.exists(path) and read(path) != value:
                self.write(path, value)
        self.unload()
        return self.problems

    def give_back(self) -> None:
        """Bind the device to its driver; if the driver refuses it, reset it and try again."""
        before = list(self.problems)
        self.write(f"{DRIVERS}/{self.driver}/bind", self.bdf)
        if self.bound() != self.driver:
            self.write(f"{self.folder}/reset", "1")
            self.write(f"{DRIVERS}/{self.driver}/bind", self.bdf)
        if self.bound() == self.driver:
            self.problems = before

    def unload(self) -> None:
        """Unload the modules that were not loaded before, unless they are in use."""
        driven = os.listdir(f"{DRIVERS}/vfio-pci") if os.path.isdir(f"{DRIVERS}/vfio-pci") else []
        if any(":" in name for name in driven):
            return
        for name in [one for one in MODULES if one not in self.modules]:
            subprocess.run(["modprobe", "-r", name], capture_output=True, check=False)

    def changed(self) -> bool:
        """Whether the device's driver_override is not what it was."""
        return override(read(f"{self.folder}/driver_override")) != override(self.override)

    def bound(self) -> str:
        """Return the name of the device's driver, empty if it has none."""
        with contextlib.suppress(OSError):
            return os.path.basename(os.readlink(f"{self.folder}/driver"))
        return ""

    def write(self, path: str, value: str) -> None:
        """Write to a file of sysfs; record a failure."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, f"{value}\n".encode())  # once: a file object tries again on close
            finally:
                os.close(fd)
        except OSError as error:
            self.problems.append(f"{path} refused {value!r}: {error.strerror}")


def parameters() -> dict[str, str]:
    """Return the writable parameters of vfio-pci, by path."""
    names = os.listdir(PARAMETERS) if os.path.isdir(PARAMETERS) else []
    paths = [f"{PARAMETERS}/{name}" for name in names]
    return {path: read(path) for path in paths if os.stat(path).st_mode & 0o200}


def override(text: str) -> str:
    """Return what to write to driver_override to make it read as `text`; a newline clears it."""
    return "" if text == ABSENT else text


def loaded(module: str) -> bool:
    """Whether a module is loaded or built in."""
    return os.path.isdir(f"/sys/module/{module.replace('-', '_')}")
