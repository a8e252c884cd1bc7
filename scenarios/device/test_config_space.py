"""What does a user see of a device's config space, and what can they change?

Kernel: drivers/vfio/pci/vfio_pci_config.c, init_pci_cap_basic_perm(), vfio_pci_config_rw().
"""

from errno import EFAULT

import pytest

from vfio_lab.drivers.intel_nic import MTA
from vfio_lab.uapi.pci_regs import (
    PCI_BASE_ADDRESS_0,
    PCI_BASE_ADDRESS_2,
    PCI_BASE_ADDRESS_3,
    PCI_BASE_ADDRESS_4,
    PCI_BASE_ADDRESS_5,
    PCI_CACHE_LINE_SIZE,
    PCI_CAPABILITY_LIST,
    PCI_CLASS_REVISION,
    PCI_COMMAND,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    PCI_INTERRUPT_LINE,
    PCI_INTERRUPT_PIN,
    PCI_ROM_ADDRESS,
    PCI_STATUS,
    PCI_SUBSYSTEM_VENDOR_ID,
    PCI_VENDOR_ID,
)
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import shown_config
from vfio_lab_pytest.verdicts import refused

HEADER_BYTES = 64
ONES = 0xFFFFFFFF
GAP = 0xE0  # after the last capability of an igb


@claim("F13")
def test_config_space_ends_at_4096_bytes(device):
    """Config space can be read as a whole, and access beyond 4096 bytes fails."""
    assert len(device.read_config(0, 4096)) == 4096
    with refused(EFAULT):
        device.read_config(4096, 1)
    with refused(EFAULT):
        device.read_config(4094, 4)
    with refused(EFAULT):
        device.write_config(4095, bytes(2))
    assert device.write_config(4095, bytes(1)) == 1


@claim("F13")
@pytest.mark.topology("bridge")
def test_config_space_of_a_conventional_device_ends_at_256_bytes(conventional, user):
    """Access to config space of a conventional PCI device fails beyond 256 bytes."""
    device = user.open(conventional)
    assert device.get_region_info(7).size == 256
    assert len(device.read_config(0, 256)) == 256
    with refused(EFAULT):
        device.read_config(256, 1)
    with refused(EFAULT):
        device.read_config(254, 4)


@claim("F62")
def test_config_space_is_accessed_at_any_offset_in_any_size(config, hardware):
    """Access to config space may start and end anywhere and span capabilities."""
    whole = config.read(0, 4096)
    assert config.read(1, 6) == whole[1:7]
    assert config.read(0x4B, 0x77) == whole[0x4B : 0x4B + 0x77]
    assert config.read(0x142, 0x1F) == whole[0x142 : 0x142 + 0x1F]
    assert config.write(GAP + 1, b"vfio-lab") == 8
    assert hardware.read(GAP, 10) == b"\0vfio-lab\0"
    assert config.read(GAP, 10) == b"\0vfio-lab\0"


@claim("F14")
def test_writes_to_read_only_fields_change_nothing(config, hardware):
    """Writes to IDs, class, status and other read-only fields succeed and change nothing."""
    before, real = config.read(0, HEADER_BYTES), hardware.read(0, HEADER_BYTES)
    config.set_dword(PCI_VENDOR_ID, ONES)
    config.set_word(PCI_STATUS, 0)
    config.set_dword(PCI_CLASS_REVISION, ONES)
    config.set_dword(PCI_SUBSYSTEM_VENDOR_ID, ONES)
    config.set_byte(PCI_CAPABILITY_LIST, 0)
    config.set_byte(PCI_INTERRUPT_PIN, 0)
    assert config.read(0, HEADER_BYTES) == before
    assert hardware.read(0, HEADER_BYTES) == real


@claim("F14")
def test_the_interrupt_line_is_virtual_and_the_cache_line_size_is_not(config, hardware):
    """vfio keeps a write to the interrupt line; a cache line size reaches the hardware."""
    line = hardware.byte(PCI_INTERRUPT_LINE)
    config.set_byte(PCI_INTERRUPT_LINE, line ^ 0xFF)
    config.set_byte(PCI_CACHE_LINE_SIZE, 0x20)
    assert config.byte(PCI_INTERRUPT_LINE) == line ^ 0xFF
    assert hardware.byte(PCI_INTERRUPT_LINE) == line
    assert config.byte(PCI_CACHE_LINE_SIZE) == 0x20
    assert hardware.byte(PCI_CACHE_LINE_SIZE) == 0x20


@claim("F15")
def test_bars_are_sized_without_the_hardware_noticing(config, hardware):
    """Sizing BARs works as usual and does not change the hardware's BARs."""
    real = hardware.read(PCI_BASE_ADDRESS_0, 24)
    config.write(PCI_BASE_ADDRESS_0, b"\xff" * 24)
    config.set_dword(PCI_ROM_ADDRESS, ONES)
    assert config.dword(PCI_BASE_ADDRESS_0) == 0xFFFE0000
    assert config.dword(PCI_BASE_ADDRESS_2) == 0xFFFFFFE1
    assert config.dword(PCI_BASE_ADDRESS_3) == 0xFFFFC004
    assert config.dword(PCI_BASE_ADDRESS_4) == ONES  # the upper half of a 64-bit BAR
    assert config.dword(PCI_BASE_ADDRESS_5) == 0
    assert config.dword(PCI_ROM_ADDRESS) == 0
    assert hardware.read(PCI_BASE_ADDRESS_0, 24) == real


@claim("F15")
def test_a_bar_address_reads_back_and_the_real_bar_stays(config, hardware, registers):
    """An address that a user writes to a BAR reads back, and the real BAR stays in place."""
    address = hardware.dword(PCI_BASE_ADDRESS_0)
    assert config.dword(PCI_BASE_ADDRESS_0) == address
    config.write(PCI_BASE_ADDRESS_0 + 1, b"\x77\x66\x55")
    assert config.dword(PCI_BASE_ADDRESS_0) == 0x55660000
    assert hardware.dword(PCI_BASE_ADDRESS_0) == address
    registers.write(MTA, ONES)
    assert registers.read(MTA) == ONES


@claim("F63")
def test_a_vf_shows_ids_and_bars_of_its_own(vf_config, vf_hardware):
    """A VF's user sees IDs and BARs that the VF's config space does not have, and no pin."""
    assert vf_hardware.dword(PCI_VENDOR_ID) == ONES
    assert vf_config.dword(PCI_VENDOR_ID) == 0x10CA8086
    vf_config.set_dword(PCI_BASE_ADDRESS_0, ONES)
    vf_config.set_dword(PCI_VENDOR_ID, 0)
    assert vf_config.dword(PCI_BASE_ADDRESS_0) == 0xFFFFC00C  # prefetchable, 64 bits
    assert vf_hardware.dword(PCI_BASE_ADDRESS_0) == 0
    assert vf_config.dword(PCI_VENDOR_ID) == 0x10CA8086
    assert vf_config.byte(PCI_INTERRUPT_PIN) == 0


@claim("F63")
def test_memory_decode_of_a_vf_is_always_on(used_vf, vf_config, vf_hardware):
    """Clearing memory decode of a VF reads back and disables nothing."""
    vf_hardware.set_word(PCI_COMMAND, 0)
    assert vf_config.word(PCI_COMMAND) == PCI_COMMAND_MEMORY
    address = used_vf.mmap_region(VFIO_PCI_BAR0_REGION_INDEX, 0x1000)
    vf_config.set_word(PCI_COMMAND, 0)
    assert vf_config.word(PCI_COMMAND) == 0
    assert used_vf.user.touch(address) is None
    assert len(used_vf.read_region(VFIO_PCI_BAR0_REGION_INDEX, 0, 4)) == 4


@claim("F16")
def test_bytes_outside_capabilities_are_those_of_the_hardware(config, hardware):
    """Bytes that belong to no capability are read from and written to the hardware."""
    hardware.set_dword(GAP, 0x11223344)
    assert config.dword(GAP) == 0x11223344
    config.set_dword(GAP, 0x55667788)
    assert hardware.dword(GAP) == 0x55667788


@claim("F01")
def test_opening_a_device_clears_bus_mastering(user, function, hardware):
    """Opening a device clears bus mastering that was left on."""
    hardware.set_word(PCI_COMMAND, hardware.word(PCI_COMMAND) | PCI_COMMAND_MASTER)
    config = shown_config(user.open(function))
    assert config.word(PCI_COMMAND) & PCI_COMMAND_MASTER == 0
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_MASTER == 0
