"""PCI Express errors on demand, by way of the kernel's aer_inject module."""

from __future__ import annotations

import struct

from vfio_lab.client.sysfs import PciFunction

INJECT_PATH = "/dev/aer_inject"
COMPLETION_TIMEOUT = 1 << 14  # uncorrectable, and not fatal
BAD_TLP = 1 << 6  # correctable


def inject(function: PciFunction, *, uncorrectable: int = 0, correctable: int = 0) -> None:
    """Have the kernel believe that a function reported errors; the module must be loaded.

    Args:
        function: which one.
        uncorrectable: bits of the Uncorrectable Error Status register.
        correctable: bits of the Correctable Error Status register.

    Raises:
        Refusal: there is no such function, or no port above it that reports errors.

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
