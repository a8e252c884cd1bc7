"""How does a user receive a device's MSI and MSI-X?

Kernel: drivers/vfio/pci/vfio_pci_intrs.c, vfio_msi_enable(), vfio_msi_set_block(),
vfio_pci_set_msi_trigger(). The igb raises its vectors itself, by their numbers.
"""

from errno import EBADF, EINVAL, ENOTTY

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.pci_regs import PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY
from vfio_lab.uapi.vfio import (
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_BAR3_REGION_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import handlers, turn_off, turn_on
from vfio_lab_pytest.verdicts import refused

INTX, MSI, MSIX = VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX
NONE = -1
NO_MESSAGE = bytes(12)  # the address and the data of a vector in the table
BOOLS = VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER


def vectors(function, *numbers):
    """Return the names that the handlers of these MSI-X vectors have."""
    return [f"vfio-msix[{number}]({function})" for number in numbers]


@claim("F69")
@pytest.mark.usefixtures("mastering")
def test_a_vector_signals_its_own_eventfd(function, device, registers, irq_fd, other_irq_fd):
    """Each MSI-X vector signals its own eventfd."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd, NONE, NONE, other_irq_fd.fd])
    assert handlers(function) == vectors(function, 0, 3)
    registers.interrupt_vector(3)
    assert (other_irq_fd.wait(), irq_fd.count()) == (1, 0)
    registers.interrupt_vector(0)
    assert (irq_fd.wait(), other_irq_fd.count()) == (1, 0)
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("F69")
@pytest.mark.topology("igb-pair")
def test_msi_signals_its_eventfd(nic, nic_device, nic_config, nic_registers, irq_fd):
    """The MSI vector of a NIC signals its eventfd until it is disabled."""
    nic_device.set_irq_eventfds(MSI, [irq_fd.fd])
    assert handlers(nic) == [f"vfio-msi[0]({nic})"]
    nic_registers.interrupt()
    assert irq_fd.count() == 0
    nic_registers.acknowledge()
    turn_on(nic_config, PCI_COMMAND_MASTER)
    nic_registers.interrupt()
    assert irq_fd.wait() >= 1
    nic_device.disable_irqs(MSI)
    assert handlers(nic) == []
    nic_registers.interrupt()
    assert irq_fd.count() == 0


@claim("F69")
@pytest.mark.usefixtures("mastering")
def test_a_vector_changes_eventfds_and_can_have_none(
    function, device, registers, irq_fd, other_irq_fd
):
    """An MSI-X vector can switch to another eventfd and to none while others stay."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd, irq_fd.fd])
    device.set_irq_eventfds(MSIX, [other_irq_fd.fd], start=1)
    registers.interrupt_vector(1)
    assert (other_irq_fd.wait(), irq_fd.count()) == (1, 0)
    device.set_irq_eventfds(MSIX, [NONE], start=1)
    assert handlers(function) == vectors(function, 0)
    registers.interrupt_vector(1)
    registers.interrupt_vector(0)
    assert (irq_fd.wait(), other_irq_fd.count()) == (1, 0)


@claim("F27")
@pytest.mark.parametrize(("first", "second"), [(MSIX, MSI), (MSI, MSIX), (INTX, MSI), (MSI, INTX)])
def test_one_kind_of_interrupt_is_on_at_a_time(function, device, irq_fd, first, second):
    """Only one of INTx, MSI and MSI-X can be enabled: others fail with EINVAL."""
    device.set_irq_eventfds(first, [irq_fd.fd])
    before = handlers(function)
    with refused(EINVAL):
        device.set_irq_eventfds(second, [irq_fd.fd])
    with refused(EINVAL):
        device.disable_irqs(second)
    with refused(EINVAL):
        device.trigger_irqs(second)
    assert handlers(function) == before
    device.disable_irqs(first)
    assert device.set_irq_eventfds(second, [irq_fd.fd]) == 0


@claim("F28")
def test_more_vectors_than_the_device_has_are_refused(function, device, irq_fd):
    """A request for more MSI-X vectors than the device has fails and enables none."""
    with refused(EINVAL):
        device.set_irq_eventfds(MSIX, [irq_fd.fd] * 11)
    with refused(EINVAL):
        device.set_irq_eventfds(MSIX, [irq_fd.fd] * 2, start=9)
    with refused(EINVAL):
        device.set_irq_eventfds(MSI, [irq_fd.fd] * 2)
    assert handlers(function) == []
    assert device.set_irq_eventfds(MSIX, [irq_fd.fd] * 10) == 0
    assert handlers(function) == vectors(function, *range(10))


@claim("F29")
def test_a_user_triggers_msix_without_the_hardware(device, irq_fd, other_irq_fd):
    """A user can trigger MSI-X vectors without the hardware; those without eventfd are skipped."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd, NONE, other_irq_fd.fd])
    device.trigger_irqs(MSIX, 0, 3)
    assert (irq_fd.wait(), other_irq_fd.wait()) == (1, 1)
    device.trigger_irqs(MSIX, 1, 2)
    assert (irq_fd.count(), other_irq_fd.wait()) == (0, 1)
    device.set_irqs(MSIX, BOOLS, 0, 3, bytes([1, 1, 0]))
    assert (irq_fd.wait(), other_irq_fd.count()) == (1, 0)
    device.set_irqs(MSIX, BOOLS, 1, 2, bytes([0, 1]))
    assert (irq_fd.count(), other_irq_fd.wait()) == (0, 1)


@claim("F30")
@pytest.mark.usefixtures("mastering")
def test_vectors_are_added_while_others_are_on(function, device, registers, irq_fd, other_irq_fd):
    """An MSI-X vector can be added while others are enabled, and works."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    assert device.set_irq_eventfds(MSIX, [other_irq_fd.fd], start=7) == 0
    assert handlers(function) == vectors(function, 0, 7)
    registers.interrupt_vector(7)
    assert (other_irq_fd.wait(), irq_fd.count()) == (1, 0)
    registers.interrupt_vector(0)
    assert (irq_fd.wait(), other_irq_fd.count()) == (1, 0)


@claim("F31")
@pytest.mark.parametrize("index", [MSI, MSIX])
@pytest.mark.parametrize("action", [VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_UNMASK])
def test_msi_is_neither_masked_nor_unmasked(device, irq_fd, index, action):
    """MSI and MSI-X can be triggered but neither masked nor unmasked."""
    device.set_irq_eventfds(index, [irq_fd.fd])
    with refused(ENOTTY):
        device.set_irqs(index, VFIO_IRQ_SET_DATA_NONE | action, 0, 1)
    device.trigger_irqs(index)
    assert irq_fd.wait() == 1


@claim("F70")
def test_a_block_of_vectors_is_set_whole_or_not_at_all(function, device, irq_fd):
    """One invalid eventfd undoes the setup of its whole block of vectors."""
    with refused(EBADF):
        device.set_irq_eventfds(MSIX, [irq_fd.fd, 999, irq_fd.fd])
    with refused(EINVAL):
        device.trigger_irqs(MSIX)
    assert handlers(function) == []
    device.set_irq_eventfds(MSIX, [irq_fd.fd] * 4)
    with refused(EINVAL):
        device.set_irq_eventfds(MSIX, [irq_fd.fd, device.fd], start=2)
    assert handlers(function) == vectors(function, 0, 1)
    device.trigger_irqs(MSIX, 0, 4)
    assert irq_fd.wait() == 2


@claim("F71")
@pytest.mark.usefixtures("mastering")
def test_vectors_are_set_up_with_memory_decode_off(device, config, hardware, registers, irq_fd):
    """MSI-X can be set up while memory decode is off, which stays off."""
    turn_off(config, PCI_COMMAND_MEMORY)
    device.set_irq_eventfds(MSIX, [irq_fd.fd, irq_fd.fd])
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_MEMORY == 0
    device.set_irq_eventfds(MSIX, [NONE], start=1)
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_MEMORY == 0
    turn_on(config, PCI_COMMAND_MEMORY)
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("F71")
@pytest.mark.usefixtures("mastering")
def test_vectors_survive_a_reset_of_the_device(device, registers, irq_fd):
    """MSI-X vectors work after a reset of the device."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1
    device.reset()
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("F68")
def test_msix_is_disabled_and_set_up_again(function, device, registers, irq_fd):
    """MSI-X can be disabled by a count of 0, set up again, and disabled by a close."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd] * 3)
    device.disable_irqs(MSIX)
    assert handlers(function) == []
    registers.interrupt_vector(0)
    assert irq_fd.count() == 0
    with refused(EINVAL):
        device.trigger_irqs(MSIX)
    device.set_irq_eventfds(MSIX, [irq_fd.fd], start=2)
    assert handlers(function) == vectors(function, 2)
    device.close()
    assert handlers(function) == []


@claim("F112")
@pytest.mark.usefixtures("mastering")
def test_a_vector_that_is_set_again_has_its_message_again(
    user, device, registers, irq_fd, other_irq_fd
):
    """A vector whose message was lost in the device works again after it is set again."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    table = device.mmap_region(VFIO_PCI_BAR3_REGION_INDEX, PAGE_BYTES)
    user.poke(table, NO_MESSAGE, width=4)
    registers.interrupt_vector(0)
    assert irq_fd.count() == 0
    device.set_irq_eventfds(MSIX, [other_irq_fd.fd])
    registers.interrupt_vector(0)
    assert other_irq_fd.wait() == 1
