"""What can be mapped of a device, and when does the mapping work?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_mmap(), vfio_pci_mmap_huge_fault();
vfio_pci_config.c, vfio_basic_config_write() and vfio_lock_and_set_power_state().
"""

from errno import EINVAL, EIO
from functools import partial
from signal import SIGBUS

from vfio_lab.drivers.intel_nic import MTA
from vfio_lab.uapi.pci_regs import (
    PCI_CAP_ID_PM,
    PCI_COMMAND_MEMORY,
    PCI_PM_CTRL,
    PCI_PM_CTRL_STATE_MASK,
)
from vfio_lab.uapi.syscalls import MAP_PRIVATE, O_CREAT, O_RDWR
from vfio_lab.uapi.vfio import (
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR1_REGION_INDEX,
    VFIO_PCI_BAR2_REGION_INDEX,
    VFIO_PCI_BAR4_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_ROM_REGION_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import faults, turn_off, turn_on
from vfio_lab_pytest.power import D0, D3HOT
from vfio_lab_pytest.verdicts import outcome, refused

REGISTERS, FLASH = VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR1_REGION_INDEX
PORTS = VFIO_PCI_BAR2_REGION_INDEX
CONFIG, ROM = VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ROM_REGION_INDEX
PAGE, BAR_BYTES = 0x1000, 0x20000
MTA_PAGE = MTA & ~(PAGE - 1)


@claim("F05")
def test_mapping_a_region_without_mmap_is_invalid(device):
    """Mapping config space, the ROM, I/O ports or a missing region fails with EINVAL."""
    device.mmap_region(REGISTERS, BAR_BYTES)
    assert outcome(partial(device.mmap_region, CONFIG, PAGE)) == EINVAL
    assert outcome(partial(device.mmap_region, ROM, PAGE)) == EINVAL
    assert outcome(partial(device.mmap_region, PORTS, PAGE)) == EINVAL
    assert outcome(partial(device.mmap_region, VFIO_PCI_BAR4_REGION_INDEX, PAGE)) == EINVAL
    assert outcome(partial(device.user.mmap, device.fd, PAGE, 9 << 40)) == EINVAL


@claim("F05")
def test_a_mapping_stays_within_its_bar_and_is_shared(device):
    """Mapping beyond the end of a BAR, or privately, fails with EINVAL."""
    mapped = device.mmap_region(REGISTERS, PAGE, BAR_BYTES - PAGE)
    assert device.user.touch(mapped) is None
    assert outcome(partial(device.mmap_region, REGISTERS, BAR_BYTES + PAGE)) == EINVAL
    assert outcome(partial(device.mmap_region, REGISTERS, PAGE, BAR_BYTES)) == EINVAL
    assert outcome(partial(device.mmap_region, REGISTERS, 2 * PAGE, BAR_BYTES - PAGE)) == EINVAL
    with refused(EINVAL):
        device.user.mmap(device.fd, PAGE, flags=MAP_PRIVATE)


@claim("F72")
def test_a_mapping_and_the_device_file_show_the_same_registers(user, device, registers):
    """Registers have the same values through the device file and through a mapping."""
    page = device.mmap_region(REGISTERS, PAGE, MTA_PAGE)
    user.poke(page + MTA - MTA_PAGE, b"\x11\x22\x33\x44", width=4)
    assert registers.read(MTA) == 0x44332211
    registers.write(MTA, 0x55667788)
    whole = device.mmap_region(REGISTERS, BAR_BYTES)
    assert user.peek(whole + MTA, 4, width=4) == b"\x88\x77\x66\x55"


@claim("F08")
def test_a_mapping_raises_sigbus_while_memory_decode_is_off(user, device, config, registers):
    """Access to a mapped BAR raises SIGBUS while memory decode is off, and works afterwards."""
    registers.write(MTA, 0x99)
    mapped = device.mmap_region(REGISTERS, BAR_BYTES) + MTA
    assert user.peek(mapped, 4, width=4) == b"\x99\0\0\0"
    turn_off(config, PCI_COMMAND_MEMORY)
    assert user.touch(mapped) is SIGBUS
    turn_on(config, PCI_COMMAND_MEMORY)
    assert user.touch(mapped) is None
    assert user.peek(mapped, 4, width=4) == b"\x99\0\0\0"


@claim("F10")
def test_the_bars_of_a_device_in_d3_cannot_be_accessed(user, device, config, hardware, registers):
    """Access to a device's BARs fails while its user has put it into D3hot."""
    mapped = device.mmap_region(REGISTERS, BAR_BYTES)
    user.peek(mapped, 4, width=4)
    control = config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL
    config.set_word(control, D3HOT)
    assert hardware.word(control) & PCI_PM_CTRL_STATE_MASK == D3HOT
    assert user.touch(mapped) is SIGBUS
    with refused(EIO):
        registers.read(MTA)
    config.set_word(control, D0)
    assert hardware.word(control) & PCI_PM_CTRL_STATE_MASK == D0
    assert user.touch(mapped) is None
    assert registers.read(MTA) == 0


@claim("F18")
def test_a_device_keeps_its_configuration_through_d3(function, config, hardware):
    """A device keeps its config header through D3hot and back."""
    turn_on(config, PCI_COMMAND_MEMORY)
    header = hardware.read(0, 64)
    control = config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL
    config.set_word(control, D3HOT)
    assert function.read("power_state") == "D3hot"
    config.set_word(control, D0)
    assert function.read("power_state") == "D0"
    assert hardware.read(0, 64) == header


@claim("F11")
def test_a_mapping_is_populated_as_it_is_touched(user, device):
    """A mapping of a BAR is populated page by page as it is touched."""
    mapped = device.mmap_region(FLASH, BAR_BYTES)
    copy = user.open_path("/run/copy", O_RDWR | O_CREAT)
    before = faults(user)
    assert user.syscall("write", copy, mapped, BAR_BYTES).value == BAR_BYTES
    assert faults(user) - before >= BAR_BYTES // PAGE


@claim("F03")
def test_bars_are_claimed_when_the_device_is_opened(guest, user, function):
    """The BARs of a device are claimed by vfio in /proc/iomem while the device is open."""
    assert "vfio" not in guest.root.read_file("/proc/iomem")
    device = user.open(function)
    assert guest.root.read_file("/proc/iomem").count(" : vfio") == 3
    assert guest.root.read_file("/proc/ioports").count(" : vfio") == 1
    device.close()
    assert "vfio" not in guest.root.read_file("/proc/iomem")
