"""What does a device report about itself?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_info(), _get_region_info(),
_get_irq_info().
"""

from errno import EFAULT, EINVAL

import pytest

from vfio_lab.client.memory import NOWHERE
from vfio_lab.uapi.pci_regs import PCI_INTERRUPT_PIN
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_FLAGS_PCI,
    VFIO_DEVICE_FLAGS_RESET,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_IRQ_INFO_AUTOMASKED,
    VFIO_IRQ_INFO_EVENTFD,
    VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_NORESIZE,
    VFIO_PCI_BAR3_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_ROM_REGION_INDEX,
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
    VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
    vfio_region_info,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

READ_WRITE = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
ROM = VFIO_PCI_ROM_REGION_INDEX
MAPPABLE = READ_WRITE | VFIO_REGION_INFO_FLAG_MMAP
WITH_TABLE = MAPPABLE | VFIO_REGION_INFO_FLAG_CAPS
INTX = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED
FIXED = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE
# What an igb has: registers, flash, I/O ports, MSI-X (64 bits wide), no ROM, configuration space.
IGB_REGIONS = [
    (MAPPABLE, 0x20000),
    (MAPPABLE, 0x20000),
    (READ_WRITE, 0x20),
    (WITH_TABLE, 0x4000),
    (0, 0),
    (0, 0),
    (0, 0),
    (READ_WRITE, 0x1000),
]


def regions(device):
    """Return the region info that every device has."""
    return [device.get_region_info(index) for index in range(8)]


def interrupts(device):
    """Return flags and count of all interrupts, without the flag NORESIZE."""
    told = [device.get_irq_info(index) for index in range(5)]
    return [(one.flags & ~VFIO_IRQ_INFO_NORESIZE, one.count) for one in told]


@claim("F02")
def test_a_device_has_nine_regions_and_five_interrupts(device):
    """A PCI device has nine regions and five interrupt indexes and can be reset."""
    info, short = device.get_info(), device.get_info(argsz=16)
    assert (info.num_regions, info.num_irqs) == (9, 5)
    assert info.flags == VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET
    assert (short.flags, short.num_regions, short.num_irqs) == (info.flags, 9, 5)
    with refused(EINVAL):
        device.get_info(argsz=15)
    with refused(EFAULT):
        device.get_info(pointer=NOWHERE)
    device.reset()


@claim("F02")
@pytest.mark.topology("bridge")
def test_a_device_without_a_reset_method_refuses_a_reset(conventional, user):
    """A device without a reset method does not set the reset flag and refuses a reset."""
    device = user.open(conventional)
    assert device.get_info().flags == VFIO_DEVICE_FLAGS_PCI
    with refused(EINVAL):
        device.reset()


@claim("F02")
def test_region_info_describes_bars_rom_and_config_space(device):
    """Region info gives size, flags and offset of the BARs, the ROM and config space."""
    told = regions(device)
    assert [(one.flags, one.size) for one in told] == IGB_REGIONS
    assert [one.offset for one in told] == [index << 40 for index in range(8)]
    with refused(EINVAL):
        device.get_region_info(8)  # the VGA region, of VGA devices only
    with refused(EINVAL):
        device.get_region_info(9)
    with refused(EINVAL):
        device.get_region_info(0, argsz=31)


@claim("F02")
def test_a_missing_rom_has_no_size(device):
    """Region info of a missing ROM clears the flags and the size in the caller's struct."""
    asked = vfio_region_info(argsz=32, index=ROM, flags=1, size=1 << 20, offset=1)
    told, _ = device.exchange(VFIO_DEVICE_GET_REGION_INFO, asked)
    assert (told.flags, told.size, told.offset) == (0, 0, ROM << 40)


@claim("F06")
def test_the_region_of_the_msix_table_can_be_mapped(user, device):
    """The region with the MSI-X table has a capability that says the table can be mapped."""
    info = device.get_region_info(VFIO_PCI_BAR3_REGION_INDEX)
    assert (info.flags, info.argsz, info.cap_offset) == (WITH_TABLE, 32 + 8, 0)
    info = device.get_region_info(VFIO_PCI_BAR3_REGION_INDEX, argsz=info.argsz)
    assert info.cap_offset == 32
    (capability,) = device.region_capabilities(VFIO_PCI_BAR3_REGION_INDEX)
    assert (capability.id, capability.version) == (VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1)
    assert device.region_capabilities(0) == ()
    assert user.peek(device.mmap_region(VFIO_PCI_BAR3_REGION_INDEX, 0x1000), 4, width=4) == bytes(4)


@claim("F20")
def test_a_pf_has_one_intx(device, config):
    """A PF has one INTx and as many other interrupts as its hardware."""
    one = (VFIO_IRQ_INFO_EVENTFD, 1)
    assert interrupts(device) == [(INTX, 1), one, (VFIO_IRQ_INFO_EVENTFD, 10), one, one]
    assert config.byte(PCI_INTERRUPT_PIN) == 1


@claim("F20")
def test_a_vf_has_msix_and_no_intx(used_vf):
    """A VF has no INTx and can set up MSI-X."""
    one, eventfd = (VFIO_IRQ_INFO_EVENTFD, 1), used_vf.user.eventfd()
    none = (VFIO_IRQ_INFO_EVENTFD, 0)
    assert interrupts(used_vf) == [(INTX, 0), none, (VFIO_IRQ_INFO_EVENTFD, 3), one, one]
    with refused(EINVAL):
        used_vf.set_irq_eventfds(VFIO_PCI_INTX_IRQ_INDEX, [eventfd])
    assert used_vf.set_irq_eventfds(VFIO_PCI_MSIX_IRQ_INDEX, [eventfd]) == 0


@claim("F30")
def test_intx_and_msix_do_not_set_noresize(device):
    """INTx and MSI-X do not set NORESIZE: their number can change while they are enabled."""
    told = [device.get_irq_info(index).flags & VFIO_IRQ_INFO_NORESIZE for index in range(5)]
    assert told == [0, VFIO_IRQ_INFO_NORESIZE, 0, VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_INFO_NORESIZE]
    with refused(EINVAL):
        device.get_irq_info(5)
    with refused(EINVAL):
        device.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX, argsz=15)


@claim("F33")
@pytest.mark.topology("bridge")
def test_a_conventional_device_has_the_error_interrupt(conventional, user):
    """A conventional PCI device, which cannot report errors, has the error interrupt index."""
    device = user.open(conventional)
    assert device.get_irq_info(0).count == 1
    info = device.get_irq_info(VFIO_PCI_ERR_IRQ_INDEX)
    assert (info.flags, info.count) == (FIXED, 1)
