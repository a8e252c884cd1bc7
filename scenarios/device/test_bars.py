"""How does a user read and write a device's BARs through the device file?

Kernel: drivers/vfio/pci/vfio_pci_rdwr.c, vfio_pci_bar_rw(), vfio_pci_core_do_io_rw().
"""

from errno import EFAULT, EINVAL, EIO

import pytest

from vfio_lab.client.memory import NOWHERE
from vfio_lab.drivers.intel_nic import MTA, MTA_NEXT
from vfio_lab.uapi.pci_regs import (
    PCI_BASE_ADDRESS_0,
    PCI_COMMAND,
    PCI_COMMAND_IO,
    PCI_COMMAND_MEMORY,
)
from vfio_lab.uapi.vfio import (
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR2_REGION_INDEX,
    VFIO_PCI_BAR3_REGION_INDEX,
    VFIO_PCI_BAR4_REGION_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import turn_off, turn_on
from vfio_lab_pytest.verdicts import refused

REGISTERS, PORTS = VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR2_REGION_INDEX
TABLE, NO_BAR = VFIO_PCI_BAR3_REGION_INDEX, VFIO_PCI_BAR4_REGION_INDEX
TABLE_BYTES = 160  # ten vectors of 16 bytes
ENTRY = bytes(range(0xA0, 0xB0))
BAR_BYTES = 0x20000
BARS_BYTES = 24  # of config space
IOADDR, IODATA = 0, 4  # I/O ports through which an igb's registers can be accessed
RESTORING = "vfio_bar_restore: reset recovery - restoring BARs"


@claim("F72")
def test_registers_are_read_and_written_through_the_file(device, registers):
    """A BAR can be read and written through the device file at any offset and in any size."""
    assert device.write_region(REGISTERS, MTA, bytes(range(8))) == 8
    assert registers.read(MTA) == 0x03020100
    assert registers.read(MTA_NEXT) == 0x07060504
    assert device.read_region(REGISTERS, MTA, 8) == bytes(range(8))
    registers.write(MTA, 0xAABBCCDD)
    assert device.read_region(REGISTERS, MTA, 12)[:8] == bytes.fromhex("ddccbbaa04050607")


@claim("F72")
def test_access_beyond_the_end_of_a_bar_fails(device):
    """Access across the end of a BAR is cut short, and beyond it fails with EINVAL."""
    assert len(device.read_region(REGISTERS, BAR_BYTES - 4, 8)) == 4
    assert device.read_region(REGISTERS, BAR_BYTES, 0) == b""
    with refused(EINVAL):
        device.read_region(REGISTERS, BAR_BYTES, 4)
    with refused(EINVAL):
        device.write_region(REGISTERS, BAR_BYTES, bytes(4))
    with refused(EINVAL):
        device.read_region(NO_BAR, 0, 4)
    with refused(EINVAL):
        device.user.pread(device.fd, 4, 9 << 40)


@claim("F72")
def test_a_write_from_an_unreadable_buffer_fails(user, device, registers):
    """A write from an unreadable buffer fails with EFAULT and does not reach the device."""
    registers.write(MTA, 1)
    at = device.region_offset(REGISTERS) + MTA
    with refused(EFAULT):
        user.syscall("pwrite64", device.fd, NOWHERE, 4, at)
    with refused(EFAULT):
        user.syscall("pread64", device.fd, NOWHERE, 4, at)
    with refused(EFAULT):
        user.syscall("pread64", device.fd, NOWHERE, 64, device.region_offset(7))
    assert registers.read(MTA) == 1


@claim("F07")
def test_the_device_file_hides_the_msix_table(user, device):
    """The device file hides the MSI-X table: reads return ones, writes have no effect."""
    table = device.mmap_region(TABLE, 0x1000)
    user.poke(table, ENTRY, width=4)
    assert device.read_region(TABLE, 0, TABLE_BYTES) == b"\xff" * TABLE_BYTES
    assert device.write_region(TABLE, 0, bytes(TABLE_BYTES)) == TABLE_BYTES
    assert user.peek(table, 12, width=4) == ENTRY[:12]


@claim("F07")
@pytest.mark.needs(
    arch="x86_64", because="elsewhere QEMU reads ones beyond the table, as from the hidden table"
)
def test_access_across_the_end_of_the_msix_table_reaches_the_device(device):
    """Access across the end of the MSI-X table reaches the device beyond the table."""
    assert device.read_region(TABLE, TABLE_BYTES - 8, 16) == b"\xff" * 8 + bytes(8)
    assert device.read_region(TABLE, TABLE_BYTES, 4) == bytes(4)
    assert device.write_region(TABLE, TABLE_BYTES - 4, bytes(8)) == 8


@claim("F09")
def test_a_memory_bar_cannot_be_accessed_with_memory_decode_off(config, device, registers):
    """Access to a memory BAR fails with EIO while memory decode is off."""
    registers.write(MTA, 0x1234)
    turn_off(config, PCI_COMMAND_MEMORY)
    with refused(EIO):
        registers.read(MTA)
    with refused(EIO):
        registers.write(MTA, 0)
    with refused(EIO):
        device.read_region(REGISTERS, MTA, 1)
    turn_on(config, PCI_COMMAND_MEMORY)
    assert registers.read(MTA) == 0x1234


@claim("F09")
def test_an_io_bar_works_with_memory_decode_off(config, device, registers):
    """An I/O BAR can be accessed while memory decode is off."""
    registers.write(MTA, 0x55AA)
    turn_on(config, PCI_COMMAND_IO)
    turn_off(config, PCI_COMMAND_MEMORY)
    device.write_region(PORTS, IOADDR, MTA.to_bytes(4, "little"))
    assert device.read_region(PORTS, IODATA, 4) == b"\xaa\x55\0\0"


@claim("F12")
def test_turning_on_memory_decode_restores_lost_bars(guest, function, config, hardware, registers):
    """Turning on memory decode restores BARs that were lost behind the user's back."""
    addresses = hardware.read(PCI_BASE_ADDRESS_0, BARS_BYTES)
    registers.write(MTA, 0x77)
    hardware.set_word(PCI_COMMAND, 0)
    hardware.write(PCI_BASE_ADDRESS_0, bytes(BARS_BYTES))
    assert not guest.dmesg(RESTORING)
    config.set_word(PCI_COMMAND, PCI_COMMAND_MEMORY)
    assert guest.dmesg(f"{function}: {RESTORING}", level="info")
    assert hardware.read(PCI_BASE_ADDRESS_0, BARS_BYTES) == addresses
    assert registers.read(MTA) == 0x77


@claim("F12")
def test_a_write_of_the_command_register_restores_a_lost_bar(guest, config, hardware, registers):
    """Any write to the command register restores a BAR whose address was lost."""
    address, command = hardware.dword(PCI_BASE_ADDRESS_0), config.word(PCI_COMMAND)
    config.set_word(PCI_COMMAND, command)
    assert not guest.dmesg(RESTORING)
    hardware.set_dword(PCI_BASE_ADDRESS_0, 0)
    config.set_word(PCI_COMMAND, command)
    assert len(guest.dmesg(RESTORING)) == 1
    assert hardware.dword(PCI_BASE_ADDRESS_0) == address
    registers.write(MTA, 0x77)
    assert registers.read(MTA) == 0x77


@claim("F12")
@pytest.mark.parametrize("lost", [PCI_COMMAND_MEMORY, PCI_COMMAND_IO], ids=["memory", "io"])
def test_a_lost_decode_bit_triggers_the_restore_of_bars(guest, config, hardware, lost):
    """A decode bit that is set for the user but not in the device triggers the restore of BARs."""
    turn_off(config, PCI_COMMAND_MEMORY | PCI_COMMAND_IO)
    turn_on(config, lost)
    assert not guest.dmesg(RESTORING)
    hardware.set_word(PCI_COMMAND, 0)
    config.set_word(PCI_COMMAND, lost)
    assert len(guest.dmesg(RESTORING)) == 1
    assert hardware.word(PCI_COMMAND) == lost
