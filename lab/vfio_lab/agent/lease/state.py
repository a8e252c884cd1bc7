"""How a device was found, and how to make it so again."""

import contextlib
import os
import subprocess

from .facts import PCI, read

DRIVERS = "/sys/bus/pci/drivers"
# In the order in which they are put back, while no driver has the device.
ATTRIBUTES = ("reset_method", "d3cold_allowed", "power/control", "sriov_drivers_autoprobe")
PARAMETERS = "/sys/module/vfio_pci/parameters"
MODULES = ("vfio-pci", "vfio_iommu_type1")
ABSENT = "(null)"


class State:
    """A device's driver and settings, and which modules of vfio there were.

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
        """Load the modules that every scenario finds loaded.

        Raises:
            OSError: modprobe cannot.
        """
        done = subprocess.run(["modprobe", "-a", *MODULES], capture_output=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.decode(errors="replace").strip())
        self.parameters = {**parameters(), **self.parameters}

    def restore(self) -> list[str]:
        """Put everything back; return what could not be."""
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
        """Bind the device to its driver; one that does not take it gets it once more, reset."""
        before = list(self.problems)
        self.write(f"{DRIVERS}/{self.driver}/bind", self.bdf)
        if self.bound() != self.driver:
            self.write(f"{self.folder}/reset", "1")
            self.write(f"{DRIVERS}/{self.driver}/bind", self.bdf)
        if self.bound() == self.driver:
            self.problems = before

    def unload(self) -> None:
        """Take out the modules that were not there, unless others have come to use them."""
        driven = os.listdir(f"{DRIVERS}/vfio-pci") if os.path.isdir(f"{DRIVERS}/vfio-pci") else []
        if any(":" in name for name in driven):
            return
        for name in [one for one in MODULES if one not in self.modules]:
            subprocess.run(["modprobe", "-r", name], capture_output=True, check=False)

    def changed(self) -> bool:
        """Whether the device is promised to another driver than it was."""
        return override(read(f"{self.folder}/driver_override")) != override(self.override)

    def bound(self) -> str:
        """Return the name of the device's driver, empty if it has none."""
        with contextlib.suppress(OSError):
            return os.path.basename(os.readlink(f"{self.folder}/driver"))
        return ""

    def write(self, path: str, value: str) -> None:
        """Write to a file of sysfs, noting it if that fails."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, f"{value}\n".encode())  # once: a file object tries again on close
            finally:
                os.close(fd)
        except OSError as error:
            self.problems.append(f"{path} does not take {value!r}: {error.strerror}")


def parameters() -> dict[str, str]:
    """Return vfio-pci's settings that can be changed, by path."""
    names = os.listdir(PARAMETERS) if os.path.isdir(PARAMETERS) else []
    paths = [f"{PARAMETERS}/{name}" for name in names]
    return {path: read(path) for path in paths if os.stat(path).st_mode & 0o200}


def override(text: str) -> str:
    """Return what to write to driver_override to make it read as `text`; a newline clears it."""
    return "" if text == ABSENT else text


def loaded(module: str) -> bool:
    """Whether a module is there, built in or loaded."""
    return os.path.isdir(f"/sys/module/{module.replace('-', '_')}")
