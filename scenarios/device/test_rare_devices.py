"""How does vfio treat ROMs, VGA, small BARs and vendor-specific capabilities?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_region_info(), _probe_mmaps();
vfio_pci_rdwr.c, vfio_pci_vga_rw(); vfio_pci_config.c; vfio_pci_intrs.c, vfio_msi_enable().
"""

from errno import EINVAL

import pytest

from vfio_lab.client.config_space import ConfigSpace
from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.pci_regs import (
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_VNDR,
    PCI_EXP_DEVCTL,
    PCI_EXP_LNKCTL,
    PCI_MSI_FLAGS,
    PCI_MSI_FLAGS_QMASK,
    PCI_MSI_FLAGS_QSIZE,
    PCI_ROM_ADDRESS,
)
from vfio_lab.uapi.vfio import (
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR2_REGION_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_ROM_REGION_INDEX,
    VFIO_PCI_VGA_REGION_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import handlers, shown_config
from vfio_lab_pytest.iommus import needs_translated_messages
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("misc-devices")
BAR0, BAR2 = VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR2_REGION_INDEX
MSI = VFIO_PCI_MSI_IRQ_INDEX
ROM, VGA = VFIO_PCI_ROM_REGION_INDEX, VFIO_PCI_VGA_REGION_INDEX
READ_WRITE = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
ROM_BYTES = 0x40000
WINDOW_OFFSET = 8  # of struct virtio_pci_cfg_cap, in the first vendor-specific capability


@pytest.fixture
def opened(guest, user):
    """Return a function that opens the device of a role."""
    return lambda role: user.open(on_vfio_pci(guest, role))


@claim("F52")
def test_a_rom_is_read_and_never_written(opened):
    """A ROM region can be read but not written, and returns ones beyond the ROM's end."""
    device = opened("rom0")
    info = device.get_region_info(ROM)
    assert (info.flags, info.size) == (VFIO_REGION_INFO_FLAG_READ, ROM_BYTES)
    image = device.read_region(ROM, 0, ROM_BYTES + 1)
    assert image[:2] == b"\x55\xaa"
    assert (len(image), image[-16:]) == (ROM_BYTES, b"\xff" * 16)
    with refused(EINVAL):
        device.write_region(ROM, 0, b"\x55\xaa")
    shown_config(device).set_dword(PCI_ROM_ADDRESS, 0xFFFFFFFF)
    assert shown_config(device).dword(PCI_ROM_ADDRESS) == 0xFFFC0001


@claim("F53")
def test_vga_devices_alone_have_the_vga_region(opened):
    """Only a VGA device has the VGA region."""
    vga, other = opened("vga0"), opened("rom0")
    info = vga.get_region_info(VGA)
    assert (info.flags, info.size) == (READ_WRITE, 0xC0000)
    assert len(vga.user.pread(vga.fd, 4, info.offset + 0xA0000)) == 4
    with refused(EINVAL):
        other.get_region_info(VGA)
    with refused(EINVAL):
        other.user.pread(other.fd, 4, info.offset + 0xA0000)


@claim("F53")
def test_the_vga_region_has_legacy_memory_and_ports(opened):
    """The VGA region gives access to VGA memory and VGA ports, and to nothing between them."""
    vga = opened("vga0")
    assert vga.write_region(VGA, 0xB8000, b"v\x07f\x07") == 4
    assert vga.read_region(VGA, 0xB8000, 4) == b"v\x07f\x07"
    assert len(vga.read_region(VGA, 0xBFFFF, 4)) == 1
    assert len(vga.read_region(VGA, 0x3DF, 4)) == 1
    assert len(vga.read_region(VGA, 0x3B0, 16)) == 12
    with refused(EINVAL):
        vga.read_region(VGA, 0xC0000, 1)
    with refused(EINVAL):
        vga.read_region(VGA, 0x3BC, 1)
    with refused(EINVAL):
        vga.write_region(VGA, 0x9FFFF, b"\0")


@claim("F53")
def test_disable_vga_removes_the_vga_region(guest, user):
    """A VGA device has no VGA region if disable_vga is set."""
    guest.unload("vfio-pci")
    guest.load("vfio-pci", "disable_vga=1")
    vga = user.open(on_vfio_pci(guest, "vga0"))
    with refused(EINVAL):
        vga.get_region_info(VGA)
    assert vga.get_region_info(BAR0).size == 1 << 24


@claim("F16")
def test_vendor_specific_capabilities_reach_the_hardware(guest, opened):
    """Vendor-specific capabilities are read from and written to the hardware."""
    config = shown_config(opened("rng0"))
    hardware = ConfigSpace.of_hardware(guest.function("rng0"))
    window = config.capability(PCI_CAP_ID_VNDR) + WINDOW_OFFSET
    config.set_dword(window, 0x1234)
    assert hardware.dword(window) == 0x1234
    hardware.set_dword(window, 0x5678)
    assert config.dword(window) == 0x5678


@claim("F65")
def test_device_control_reaches_the_device_and_link_control_does_not(guest, opened):
    """Error reporting in Device Control reaches the hardware; Link Control cannot be changed."""
    config = shown_config(opened("rng0"))
    hardware = ConfigSpace.of_hardware(guest.function("rng0"))
    express = config.capability(PCI_CAP_ID_EXP)
    config.set_word(express + PCI_EXP_DEVCTL, 0x504F)
    assert config.word(express + PCI_EXP_DEVCTL) == 0x504F
    assert hardware.word(express + PCI_EXP_DEVCTL) == 0x000F
    link = hardware.word(express + PCI_EXP_LNKCTL)
    config.set_word(express + PCI_EXP_LNKCTL, link ^ 0xC0)
    assert hardware.word(express + PCI_EXP_LNKCTL) == link
    hardware.set_word(express + PCI_EXP_LNKCTL, link ^ 0xC0)
    assert config.word(express + PCI_EXP_LNKCTL) == link ^ 0xC0


@claim("F28")
@needs_translated_messages
def test_a_request_for_more_msi_vectors_than_available_enables_none(guest, user, opened):
    """A request for more MSI vectors than available returns their number and enables none."""
    usb, eventfd = opened("usb0"), user.eventfd()
    flags = shown_config(usb).capability(PCI_CAP_ID_MSI) + PCI_MSI_FLAGS
    assert usb.get_irq_info(MSI).count == 16
    assert usb.set_irq_eventfds(MSI, [eventfd] * 4) == 1
    assert handlers(guest.function("usb0")) == []
    assert usb.set_irq_eventfds(MSI, [eventfd]) == 0
    assert len(handlers(guest.function("usb0"))) == 1
    shown_config(usb).set_word(flags, PCI_MSI_FLAGS_QSIZE)
    assert shown_config(usb).word(flags) & PCI_MSI_FLAGS_QSIZE == 0


@claim("F19")
@needs_translated_messages
def test_msi_shows_as_many_vectors_as_the_hardware_has(user, opened):
    """MSI shows all sixteen vectors of the hardware, even after one was set up."""
    usb = opened("usb0")
    config = shown_config(usb)
    flags = config.capability(PCI_CAP_ID_MSI) + PCI_MSI_FLAGS
    assert config.word(flags) & PCI_MSI_FLAGS_QMASK == 4 << 1
    assert usb.set_irq_eventfds(MSI, [user.eventfd()]) == 0
    assert config.word(flags) & PCI_MSI_FLAGS_QMASK == 4 << 1
    assert list(config.capabilities())[-1] == PCI_CAP_ID_MSI


@claim("F75")
def test_a_bar_smaller_than_a_page_reserves_the_page(guest, opened):
    """A BAR smaller than a page can be mapped, and the rest of its page is reserved."""
    card = opened("sd0")
    info = card.get_region_info(BAR0)
    assert (info.flags, info.size) == (READ_WRITE | VFIO_REGION_INFO_FLAG_MMAP, 0x100)
    assert "vfio sub-page reserved" in guest.root.read_file("/proc/iomem")
    assert card.user.touch(card.mmap_region(BAR0, PAGE_BYTES)) is None
    with refused(EINVAL):
        card.mmap_region(BAR0, 2 * PAGE_BYTES)
    with refused(EINVAL):
        card.read_region(BAR0, 0x100, 1)
    card.close()
    card.user.kill()
    assert "vfio sub-page reserved" not in guest.root.read_file("/proc/iomem")


@claim("F75")
def test_a_bar_of_one_page_is_mapped_without_a_reservation(guest, opened):
    """A BAR of exactly one page can be mapped without a reservation."""
    vga = opened("vga0")
    info = vga.get_region_info(BAR2)
    assert (info.flags, info.size) == (READ_WRITE | VFIO_REGION_INFO_FLAG_MMAP, PAGE_BYTES)
    assert "vfio sub-page reserved" not in guest.root.read_file("/proc/iomem")
    assert vga.user.touch(vga.mmap_region(BAR2, PAGE_BYTES)) is None
