"""A PCI function that a user drives through uio_pci_generic."""

from __future__ import annotations

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.client.user import User


class UioDevice:
    """An open uio node, with the config space that sysfs offers.

    Args:
        user: the user that opens it.
        function: the function, bound to uio_pci_generic.
    """

    def __init__(self, user: User, function: PciFunction) -> None:
        """Open it."""
        (self.node,) = user.listdir(f"{function.path}/uio")
        self.user = user
        self.fd = user.open_path(f"/dev/{self.node}")
        self.config = f"{function.path}/config"

    def close(self) -> None:
        """Close the node."""
        self.user.close(self.fd)

    def mmap_region(self, index: int, size: int) -> int:
        """Map the first `size` bytes of a memory BAR, by uio's index.

        Source: drivers/uio/uio.c, uio_find_mem_index(): the offset in pages is the index.
        """
        return self.user.mmap(self.fd, size, index * PAGE_BYTES)

    def write_config(self, offset: int, data: bytes) -> int:
        """Write the config space and return how many bytes were taken."""
        fd = self.user.open_path(self.config)
        try:
            return self.user.pwrite(fd, data, offset)
        finally:
            self.user.close(fd)
