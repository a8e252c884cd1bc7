"""A PCI function of a guest, which the guest's administrator reads and controls in sysfs."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from vfio_lab.client.call import Refusal
from vfio_lab.client.user import PendingCall, User
from vfio_lab.hw.pci import Bdf
from vfio_lab.util.deadline import Deadline, wait_until

DRIVERS = "/sys/bus/pci/drivers"
ENABLE_SRIOV = "/sys/module/vfio_pci/parameters/enable_sriov"
CHANGE_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class PciFunction:
    """One PCI function; every property is read from the guest on each access.

    Args:
        bdf: its address.
        root: the administrator, which reads and writes its attributes.
    """

    bdf: Bdf
    root: User

    def __repr__(self) -> str:
        """Return `PciFunction(0000:01:00.0)`."""
        return f"{type(self).__name__}({self.bdf})"

    def __str__(self) -> str:
        """Return the address."""
        return str(self.bdf)

    @property
    def path(self) -> str:
        """Its folder in sysfs."""
        return f"/sys/bus/pci/devices/{self.bdf}"

    def read(self, attribute: str) -> str:
        """Return a sysfs attribute."""
        return self.root.read_file(f"{self.path}/{attribute}")

    def write(self, attribute: str, value: object) -> None:
        """Write a sysfs attribute; raises `Refusal` when the kernel refuses the write."""
        self.root.write_file(f"{self.path}/{attribute}", str(value))

    def start_write(self, attribute: str, value: object, by: User) -> PendingCall:
        """Start a write that may block, as the user `by`, without waiting for it to return.

        Args:
            attribute: name of the sysfs file, relative to the function's folder.
            value: what to write; a newline is added.
            by: the user that writes.
        """
        return by.start_write_file(f"{self.path}/{attribute}", str(value))

    def await_value(self, attribute: str, value: str) -> None:
        """Wait until an attribute that changes by itself, such as `power_state`, has a value.

        Raises:
            DeadlineExceeded: the attribute did not get the value.
        """
        wait_until(
            f"{attribute} of {self} to be {value}",
            lambda: self.read(attribute) == value,
            Deadline.after(CHANGE_TIMEOUT_S),
        )

    @property
    def present(self) -> bool:
        """Whether the function exists."""
        return self.root.exists(self.path)

    @property
    def driver(self) -> str | None:
        """The bound driver's name, None if unbound."""
        return self._link("driver")

    @property
    def grouped(self) -> bool:
        """Whether it is in an IOMMU group."""
        return self._link("iommu_group") is not None

    @property
    def group(self) -> int:
        """Number of its IOMMU group.

        Raises:
            Refusal: ENOENT, it has none.
        """
        return int(self.root.readlink(f"{self.path}/iommu_group").rpartition("/")[2])

    @property
    def cdev(self) -> str:
        """Path of its vfio character device.

        Raises:
            Refusal: ENOENT, it is not bound to a vfio driver.
        """
        (name,) = self.root.listdir(f"{self.path}/vfio-dev")
        return f"/dev/vfio/devices/{name}"

    @property
    def numvfs(self) -> int:
        """How many VFs are enabled."""
        return int(self.read("sriov_numvfs"))

    def enable_vfs(self, count: int) -> list[PciFunction]:
        """Enable `count` VFs (0 disables) and return them in order."""
        self.write("sriov_numvfs", count)
        return self.vfs()

    def vfs(self) -> list[PciFunction]:
        """Return the VFs that exist, in order."""
        names = [name for name in self.root.listdir(self.path) if name.startswith("virtfn")]
        ordered = sorted(names, key=lambda name: int(name.removeprefix("virtfn")))
        links = [self.root.readlink(f"{self.path}/{name}") for name in ordered]
        return [PciFunction(Bdf.parse(link.rpartition("/")[2]), self.root) for link in links]

    def bind(self, driver: str) -> None:
        """Bind the function to `driver` alone; unbind it from another driver first.

        Kernels after 7.3 may take driver_override for some drivers only, such as vfio-pci. A driver
        of the host then binds by the function's IDs.

        Raises:
            Refusal: the driver refuses the function.
        """
        self.unbind()
        self.write("driver_override", driver)
        try:
            self._bind(driver)
        except Refusal as refusal:
            if refusal.errno != errno.ENODEV:
                raise
            self.write("driver_override", "")
            self._bind(driver)

    def bind_with_sriov(self) -> PciFunction:
        """Bind to vfio-pci with SR-IOV allowed, and return the function."""
        self.root.write_file(ENABLE_SRIOV, "Y")
        self.bind("vfio-pci")
        return self

    def unbind(self) -> None:
        """Unbind the function from its driver, if it has one."""
        if (driver := self.driver) is not None:
            self.root.write_file(f"{DRIVERS}/{driver}/unbind", str(self.bdf))

    def start_unbind(self, by: User) -> PendingCall:
        """Start an unbind that may block, as the user `by`."""
        return by.start_write_file(f"{DRIVERS}/{self.driver}/unbind", str(self.bdf))

    def _bind(self, driver: str) -> None:
        self.root.write_file(f"{DRIVERS}/{driver}/bind", str(self.bdf))

    def _link(self, name: str) -> str | None:
        try:
            return self.root.readlink(f"{self.path}/{name}").rpartition("/")[2]
        except Refusal as refusal:
            if refusal.errno != errno.ENOENT:
                raise
            return None
