"""What does one user leave behind for the next user of a device?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_disable(), vfio_pci_core_enable(),
vfio_pci_ioctl_reset().
"""

from vfio_lab.drivers.e1000 import E1000
from vfio_lab.drivers.intel_nic import MTA, IntelNic
from vfio_lab.uapi.pci_regs import (
    PCI_BASE_ADDRESS_0,
    PCI_CAP_ID_PM,
    PCI_COMMAND,
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    PCI_INTERRUPT_LINE,
    PCI_PM_CTRL,
)
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_IOEVENTFD_32,
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import (
    handlers,
    shown_config,
    turn_off,
    turn_on,
)
from vfio_lab_pytest.power import D3HOT

REGISTERS, ERROR = VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX
INTX, MSIX = VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX
ONES = 0xFFFFFFFF


@claim("F56")
def test_a_reset_clears_the_device_and_keeps_its_configuration(device, config, hardware, registers):
    """VFIO_DEVICE_RESET resets the function and keeps its BARs and command register."""
    turn_on(config, PCI_COMMAND_MASTER)
    header = hardware.read(0, 64)
    mapped = device.mmap_region(REGISTERS, 0x1000)
    registers.write(MTA, ONES)
    device.reset()
    assert registers.read(MTA) == 0
    assert hardware.read(0, 64) == header
    assert device.user.touch(mapped) is None


@claim("F56")
def test_closing_a_device_resets_it(user, function, device, registers):
    """Closing a device resets the registers that its user has changed."""
    registers.write(MTA, ONES)
    device.dup().close()
    assert registers.read(MTA) == ONES
    device.close()
    assert IntelNic(user.open(function)).read(MTA) == 0


@claim("F56")
def test_closing_a_device_restores_its_configuration(function, device, config, hardware):
    """Closing a device restores its BARs and command register and clears bus mastering."""
    found = hardware.word(PCI_COMMAND)
    addresses = hardware.read(PCI_BASE_ADDRESS_0, 24)
    turn_on(config, PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
    turn_off(config, PCI_COMMAND_MEMORY)
    hardware.set_dword(PCI_BASE_ADDRESS_0, 0)
    device.close()
    assert hardware.read(PCI_BASE_ADDRESS_0, 24) == addresses
    assert hardware.word(PCI_COMMAND) == found & ~PCI_COMMAND_MASTER
    assert function.read("enable") == "0"


@claim("F56")
def test_the_next_user_sees_nothing_of_the_last_one(user, function, device, config, irq_fd):
    """The next user of a device sees no BARs, DisINTx, eventfds or ioeventfds of the last one."""
    config.set_dword(PCI_BASE_ADDRESS_0, 0)
    config.set_byte(PCI_INTERRUPT_LINE, 0x77)
    turn_on(config, PCI_COMMAND_INTX_DISABLE)
    device.set_irq_eventfds(ERROR, [irq_fd.fd])
    device.ioeventfd(REGISTERS, MTA, 1, irq_fd.fd, VFIO_DEVICE_IOEVENTFD_32)
    device.close()
    irq_fd.ring()
    device = user.open(function)
    assert shown_config(device).dword(PCI_BASE_ADDRESS_0) != 0
    assert shown_config(device).byte(PCI_INTERRUPT_LINE) != 0x77
    assert shown_config(device).word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE == 0
    assert (IntelNic(device).read(MTA), irq_fd.count()) == (0, 1)


@claim("F56")
def test_disintx_of_the_last_user_does_not_mask_the_next_ones_intx(
    user, function, device, config, irq_fd
):
    """INTx of the next user works although the last user had set the INTx disable bit."""
    turn_on(config, PCI_COMMAND_INTX_DISABLE)
    device.close()
    device = user.open(function)
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    E1000(device).interrupt()
    assert irq_fd.wait() == 1


@claim("F56")
def test_a_killed_user_leaves_no_interrupts_enabled(guest, user, function, device, irq_fd):
    """kill -9 of a user removes the interrupt handlers, and the next user can choose anew."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd] * 3)
    user.kill()
    assert handlers(function) == []
    heir = guest.user("heir")
    assert heir.open(function).set_irq_eventfds(INTX, [heir.eventfd()]) == 0
    assert handlers(function) == [f"vfio-intx({function})"]


@claim("F56")
def test_a_device_closed_in_d3_is_awake_for_the_next_user(user, function, device, config):
    """A device closed in D3hot is reset and works when it is opened again."""
    IntelNic(device).write(MTA, ONES)
    config.set_word(config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL, D3HOT)
    device.close()
    device = user.open(function)
    assert IntelNic(device).read(MTA) == 0
    IntelNic(device).write(MTA, 1)
    assert IntelNic(device).read(MTA) == 1


@claim("F56")
def test_a_reset_returns_a_device_from_d3(device, config, hardware, registers):
    """VFIO_DEVICE_RESET returns a device in D3hot to D0 and keeps its configuration."""
    header = hardware.read(0, 64)
    control = config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL
    config.set_word(control, D3HOT)
    device.reset()
    assert config.word(control) & D3HOT == 0
    assert hardware.read(0, 64) == header
    registers.write(MTA, 1)
    assert registers.read(MTA) == 1
