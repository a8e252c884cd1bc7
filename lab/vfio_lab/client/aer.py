"""PCI Express errors that are injected with the kernel's aer_inject module."""

from __future__ import annotations

import struct

from vfio_lab.client.sysfs import PciFunction

INJECT_PATH = "/dev/aer_inject"
COMPLETION_TIMEOUT = 1 << 14  # uncorrectable, and not fatal
BAD_TLP = 1 << 6  # correctable


def inject(function: PciFunction, *, uncorrectable: int = 0, correctable: int = 0) -> None:
    """Make the kernel handle errors as if a function had reported them; needs the module loaded.

    Args:
        function: which one.
        uncorrectable: bits of the Uncorrectable Error Status register.
        correctable: bits of the Correctable Error Status register.

    Raises:
        Refusal: there is no such function, or no port above it can report errors.

    Source: drivers/pci/pcie/aer_inject.c, struct aer_error_inj.
    """
    bdf, root = function.bdf, function.root
    where = struct.pack("<BBBx", bdf.bus, bdf.device, bdf.function)
    header_log = (0, 0, 0, 0)
    errors = struct.pack("<7I", uncorrectable, correctable, *header_log, bdf.domain)
    fd = root.open_path(INJECT_PATH)
    try:
        root.write(fd, where + errors)
    finally:
        root.close(fd)
