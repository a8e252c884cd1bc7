"""What does an ioeventfd write, and where?

Kernel: drivers/vfio/pci/vfio_pci_rdwr.c, vfio_pci_ioeventfd(); drivers/vfio/virqfd.c.
"""

from errno import EBADF, EEXIST, EINVAL, ENODEV, ENOSPC

import pytest

from vfio_lab.drivers.intel_nic import MTA, MTA_NEXT
from vfio_lab.uapi.pci_regs import PCI_COMMAND_MEMORY
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_IOEVENTFD_8,
    VFIO_DEVICE_IOEVENTFD_16,
    VFIO_DEVICE_IOEVENTFD_32,
    VFIO_DEVICE_IOEVENTFD_64,
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR3_REGION_INDEX,
    VFIO_PCI_BAR4_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import ioeventfds, turn_off, turn_on
from vfio_lab_pytest.verdicts import refused

REGISTERS, TABLE = VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR3_REGION_INDEX
NO_BAR, CONFIG = VFIO_PCI_BAR4_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX
BYTE, WORD = VFIO_DEVICE_IOEVENTFD_8, VFIO_DEVICE_IOEVENTFD_16
DWORD, QWORD = VFIO_DEVICE_IOEVENTFD_32, VFIO_DEVICE_IOEVENTFD_64
BAR_BYTES, TABLE_BYTES = 0x20000, 160
AWAY = -1
MOST = 1000
# Source: include/linux/vfio_pci_core.h, VFIO_PCI_INDEX_TO_OFFSET().
REGION_MINUS_1 = -1 << 40 & (1 << 64) - 1


@claim("F43")
def test_an_ioeventfd_writes_when_it_is_signalled(device, registers, irq_fd, other_irq_fd):
    """Signalling an ioeventfd writes its value to its address and nowhere else."""
    device.ioeventfd(REGISTERS, MTA, 0x11223344, irq_fd.fd, DWORD)
    device.ioeventfd(REGISTERS, MTA_NEXT, 0x55667788, other_irq_fd.fd, DWORD)
    irq_fd.ring()
    assert (registers.read(MTA), registers.read(MTA_NEXT)) == (0x11223344, 0)
    assert irq_fd.count() == 0  # vfio consumed it
    registers.write(MTA, 0)
    other_irq_fd.ring()
    assert (registers.read(MTA), registers.read(MTA_NEXT)) == (0, 0x55667788)


@claim("F43")
def test_an_ioeventfd_is_added_and_removed_once(device, registers, irq_fd):
    """Adding an ioeventfd twice fails with EEXIST, and removing a missing one with ENODEV."""
    with refused(ENODEV):
        device.ioeventfd(REGISTERS, MTA, 7, AWAY, DWORD)
    device.ioeventfd(REGISTERS, MTA, 7, irq_fd.fd, DWORD)
    with refused(EEXIST):
        device.ioeventfd(REGISTERS, MTA, 7, irq_fd.fd, DWORD)
    with refused(ENODEV):
        device.ioeventfd(REGISTERS, MTA, 8, AWAY, DWORD)
    device.ioeventfd(REGISTERS, MTA, 7, AWAY, DWORD)
    irq_fd.ring()
    assert registers.read(MTA) == 0
    assert irq_fd.count() == 1  # vfio did not consume it
    device.ioeventfd(REGISTERS, MTA, 7, irq_fd.fd, DWORD)


@claim("F43")
@pytest.mark.parametrize(
    ("region", "offset", "flags"),
    [
        pytest.param(CONFIG, 0, DWORD, id="configuration space"),
        pytest.param(NO_BAR, 0, DWORD, id="no BAR"),
        pytest.param(REGISTERS, BAR_BYTES - 2, DWORD, id="across the end"),
        pytest.param(TABLE, 0, DWORD, id="MSI-X table"),
        pytest.param(TABLE, TABLE_BYTES - 1, BYTE, id="end of the MSI-X table"),
        pytest.param(REGISTERS, MTA, 0, id="no width"),
        pytest.param(REGISTERS, MTA, WORD | DWORD, id="two widths"),
        pytest.param(REGISTERS, MTA, DWORD | 1 << 4, id="unknown flag"),
    ],
)
def test_an_ioeventfd_writes_to_bars_only(device, irq_fd, region, offset, flags):
    """An ioeventfd outside BARs, in the MSI-X table or without one width fails with EINVAL."""
    with refused(EINVAL):
        device.ioeventfd(region, offset, 0, irq_fd.fd, flags)
    device.ioeventfd(TABLE, TABLE_BYTES, 0, irq_fd.fd, DWORD)
    device.ioeventfd(REGISTERS, BAR_BYTES - 4, 0, irq_fd.fd, DWORD)


@claim("F43")
def test_an_ioeventfd_refuses_other_descriptors(device, irq_fd):
    """An ioeventfd refuses a descriptor that is not an eventfd, and a short argument."""
    with refused(EBADF):
        device.ioeventfd(REGISTERS, MTA, 0, 999, DWORD)
    with refused(EINVAL):
        device.ioeventfd(REGISTERS, MTA, 0, device.fd, DWORD)
    with refused(EINVAL):
        device.ioeventfd(REGISTERS, MTA, 0, -2, DWORD)
    with refused(EINVAL):
        device.ioeventfd(REGISTERS, MTA, 0, irq_fd.fd, DWORD, argsz=27)
    device.ioeventfd(REGISTERS, MTA, 0, irq_fd.fd, DWORD, argsz=28)


@claim("F109")
def test_an_ioeventfd_has_no_negative_region(device, irq_fd):
    """An ioeventfd beyond 2^63, in a region of a negative number, fails with EINVAL."""
    assert device.region_offset(REGISTERS) == 0
    with refused(EINVAL):
        device.ioeventfd(REGISTERS, REGION_MINUS_1, 0, irq_fd.fd, DWORD)
    device.ioeventfd(REGISTERS, MTA, 0, irq_fd.fd, DWORD)


@claim("F103")
def test_an_ioeventfd_writes_eight_bytes(device, registers, irq_fd):
    """An ioeventfd can write eight bytes at once."""
    device.ioeventfd(REGISTERS, MTA, 0x1122334455667788, irq_fd.fd, QWORD)
    irq_fd.ring()
    assert registers.read(MTA) == 0x55667788
    assert registers.read(MTA_NEXT) == 0x11223344


@claim("F43")
def test_an_ioeventfd_writes_nothing_with_memory_decode_off(device, config, registers, irq_fd):
    """An ioeventfd signalled while memory decode is off writes nothing."""
    device.ioeventfd(REGISTERS, MTA, 0x77, irq_fd.fd, DWORD)
    turn_off(config, PCI_COMMAND_MEMORY)
    irq_fd.ring()
    turn_on(config, PCI_COMMAND_MEMORY)
    assert (registers.read(MTA), irq_fd.count()) == (0, 0)
    irq_fd.ring()
    assert registers.read(MTA) == 0x77


@claim("F43")
def test_an_ioeventfd_accepts_descriptor_0(user, device, registers, irq_fd):
    """An ioeventfd accepts descriptor 0."""
    user.close(0)
    assert user.dup(irq_fd.fd) == 0
    device.ioeventfd(REGISTERS, MTA, 0x77, 0, DWORD)
    irq_fd.ring()
    assert registers.read(MTA) == 0x77


@claim("F43")
def test_a_device_has_a_thousand_ioeventfds(device, irq_fd):
    """A device has up to a thousand ioeventfds; one more fails with ENOSPC."""
    assert ioeventfds(device, REGISTERS, MTA, irq_fd, MOST) == MOST
    with refused(ENOSPC):
        device.ioeventfd(REGISTERS, MTA, MOST, irq_fd.fd, DWORD)
    device.ioeventfd(REGISTERS, MTA, 0, AWAY, DWORD)
    device.ioeventfd(REGISTERS, MTA, MOST, irq_fd.fd, DWORD)
