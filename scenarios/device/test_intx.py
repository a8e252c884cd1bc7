"""How does a user receive a device's INTx?

Kernel: drivers/vfio/pci/vfio_pci_intrs.c, vfio_intx_handler(), vfio_pci_set_intx_*();
vfio_pci_config.c, vfio_basic_config_write() for the DisINTx bit. The NIC raises its INTx itself
and asserts it until its causes are read.
"""

from errno import EBADF, EBUSY, EINVAL, ENOTTY

import pytest

from vfio_lab.uapi.pci_regs import (
    PCI_COMMAND,
    PCI_COMMAND_INTX_DISABLE,
    PCI_STATUS,
    PCI_STATUS_INTERRUPT,
)
from vfio_lab.uapi.vfio import (
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_INTX_IRQ_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import handlers
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("igb-pair")
INTX = VFIO_PCI_INTX_IRQ_INDEX
NONE = -1


@pytest.fixture
def function(nic):
    """The NIC that is neither PF nor VF."""
    return nic


def by_eventfd(action, fd):
    """Return the arguments of SET_IRQS that have an eventfd mask or unmask INTx."""
    data = fd.to_bytes(4, "little", signed=True)
    return INTX, VFIO_IRQ_SET_DATA_EVENTFD | action, 0, 1, data


def by_bool(action, *, on):
    """Return the arguments of SET_IRQS that mask, unmask or trigger INTx if `on`."""
    return INTX, VFIO_IRQ_SET_DATA_BOOL | action, 0, 1, bytes([on])


@claim("F21")
def test_intx_signals_once_until_it_is_unmasked(device, registers, irq_fd):
    """INTx is masked when it is signalled and is signalled again only after an unmask."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    registers.interrupt()
    assert irq_fd.wait() == 1
    registers.acknowledge()
    registers.interrupt()
    assert irq_fd.count() == 0
    registers.acknowledge()
    device.unmask_irq(INTX)
    assert irq_fd.count() == 0
    registers.interrupt()
    assert irq_fd.wait() == 1


@claim("F21")
def test_intx_still_asserted_is_signalled_again_by_an_unmask(device, registers, hardware, irq_fd):
    """Unmasking INTx that is still asserted signals it again and masks it again."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    registers.interrupt()
    assert irq_fd.wait() == 1
    assert hardware.word(PCI_STATUS) & PCI_STATUS_INTERRUPT
    device.unmask_irq(INTX)
    assert irq_fd.wait() == 1
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE
    registers.acknowledge()
    device.unmask_irq(INTX)
    assert irq_fd.count() == 0
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE == 0


@claim("F21")
def test_intx_masked_by_its_user_signals_after_the_unmask(device, registers, irq_fd):
    """INTx that its user has masked is signalled when the user unmasks it."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.mask_irq(INTX)
    device.mask_irq(INTX)
    registers.interrupt()
    assert irq_fd.count() == 0
    device.set_irqs(*by_bool(VFIO_IRQ_SET_ACTION_UNMASK, on=False))
    assert irq_fd.count() == 0
    device.set_irqs(*by_bool(VFIO_IRQ_SET_ACTION_UNMASK, on=True))
    assert irq_fd.wait() == 1


@claim("F21")
def test_data_bool_masks_intx_only_with_a_one(device, registers, irq_fd):
    """DATA_BOOL masks INTx with a one and has no effect with a zero."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.set_irqs(*by_bool(VFIO_IRQ_SET_ACTION_MASK, on=False))
    registers.interrupt()
    assert irq_fd.wait() == 1
    registers.acknowledge()
    device.unmask_irq(INTX)
    device.set_irqs(*by_bool(VFIO_IRQ_SET_ACTION_MASK, on=True))
    registers.interrupt()
    assert irq_fd.count() == 0


@claim("F21")
@pytest.mark.parametrize(
    "action", [VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_UNMASK], ids=["mask", "unmask"]
)
def test_masking_zero_vectors_is_invalid(device, irq_fd, action):
    """Masking zero vectors of INTx fails with EINVAL for any data type."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    with refused(EINVAL):
        device.set_irqs(INTX, VFIO_IRQ_SET_DATA_NONE | action, 0, 0)
    with refused(EINVAL):
        device.set_irqs(INTX, VFIO_IRQ_SET_DATA_BOOL | action, 0, 0)
    device.set_irqs(INTX, VFIO_IRQ_SET_DATA_NONE | action, 0, 1)


@claim("F22")
def test_intx_is_unmasked_by_an_eventfd(device, registers, irq_fd, other_irq_fd):
    """An eventfd can unmask INTx, which is signalled again if it is still asserted."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, other_irq_fd.fd))
    registers.interrupt()
    assert irq_fd.wait() == 1
    other_irq_fd.ring()
    assert irq_fd.wait() == 1
    registers.acknowledge()
    other_irq_fd.ring()
    assert irq_fd.count() == 0
    registers.interrupt()
    assert irq_fd.wait() == 1


@claim("F22")
def test_one_eventfd_at_a_time_unmasks_intx(device, registers, irq_fd, other_irq_fd):
    """A second unmask eventfd for INTx fails with EBUSY, and a mask eventfd with ENOTTY."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, other_irq_fd.fd))
    with refused(EBUSY):
        device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, irq_fd.fd))
    with refused(ENOTTY):
        device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_MASK, irq_fd.fd))
    device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, NONE))
    registers.interrupt()
    other_irq_fd.ring()
    assert irq_fd.wait() == 1
    device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, other_irq_fd.fd))
    assert irq_fd.wait() == 1  # it was signalled before it was set, which counts


@claim("F22")
def test_a_closed_unmask_eventfd_can_be_replaced(device, irq_fd, other_irq_fd):
    """Another eventfd can unmask INTx after the first one is closed."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    with refused(EBADF):
        device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, 999))
    with refused(EINVAL):
        device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, device.fd))
    device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, other_irq_fd.fd))
    other_irq_fd.close()
    device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, irq_fd.fd))


@claim("F23")
def test_disintx_masks_intx_and_clearing_it_delivers(device, registers, config, irq_fd):
    """The INTx disable bit masks INTx, and clearing it delivers a pending interrupt."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    command = config.word(PCI_COMMAND)
    config.set_word(PCI_COMMAND, command | PCI_COMMAND_INTX_DISABLE)
    assert config.word(PCI_COMMAND) == command | PCI_COMMAND_INTX_DISABLE
    registers.interrupt()
    device.unmask_irq(INTX)
    device.trigger_irqs(INTX)
    assert irq_fd.count() == 0
    config.set_word(PCI_COMMAND, command)
    assert irq_fd.wait() == 1


@claim("F23")
def test_a_write_of_the_command_register_does_not_unmask_intx(device, registers, config, irq_fd):
    """A write to the command register does not unmask INTx that its user has masked."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.mask_irq(INTX)
    config.set_word(PCI_COMMAND, config.word(PCI_COMMAND))
    registers.interrupt()
    assert irq_fd.count() == 0
    device.unmask_irq(INTX)
    assert irq_fd.wait() == 1


@claim("F23")
def test_disintx_works_in_a_write_of_the_upper_byte(device, registers, irq_fd):
    """A write to the upper byte of the command register masks INTx, too."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.write_config(PCI_COMMAND + 1, bytes([PCI_COMMAND_INTX_DISABLE >> 8]))
    registers.interrupt()
    assert irq_fd.count() == 0
    device.write_config(PCI_COMMAND + 1, bytes(1))
    assert irq_fd.wait() == 1


@claim("F23")
def test_disintx_before_intx_is_set_up_masks_it_from_the_start(
    device, registers, config, hardware, irq_fd
):
    """INTx set up while the INTx disable bit is set is masked from the start."""
    command = config.word(PCI_COMMAND)
    config.set_word(PCI_COMMAND, command | PCI_COMMAND_INTX_DISABLE)
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE
    registers.interrupt()
    assert irq_fd.count() == 0
    config.set_word(PCI_COMMAND, command)
    assert irq_fd.wait() == 1
    device.disable_irqs(INTX)
    assert config.word(PCI_COMMAND) == command


@claim("F23")
def test_the_disintx_bit_of_vfio_is_hidden_from_the_user(device, registers, config, irq_fd):
    """The user does not see the INTx disable bit that vfio sets in the hardware."""
    command = config.word(PCI_COMMAND)
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    registers.interrupt()
    assert irq_fd.wait() == 1
    assert config.word(PCI_COMMAND) == command
    assert command & PCI_COMMAND_INTX_DISABLE == 0


@claim("F24")
@pytest.mark.parametrize(
    "action",
    [VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_ACTION_TRIGGER],
    ids=["mask", "unmask", "trigger"],
)
def test_intx_that_is_not_set_up_refuses_every_action(device, irq_fd, action):
    """Every action on INTx that is not set up fails with EINVAL."""
    with refused(EINVAL):
        device.set_irqs(INTX, VFIO_IRQ_SET_DATA_NONE | action, 0, 1)
    with refused(EINVAL):
        device.set_irqs(*by_bool(action, on=True))
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.set_irqs(INTX, VFIO_IRQ_SET_DATA_NONE | action, 0, 1)
    device.disable_irqs(INTX)
    with refused(EINVAL):
        device.set_irqs(INTX, VFIO_IRQ_SET_DATA_NONE | action, 0, 1)


@claim("F24")
def test_intx_without_an_eventfd_can_be_triggered_and_unmasked(device, registers, irq_fd):
    """INTx set up without an eventfd can be triggered and unmasked and signals nothing."""
    device.set_irq_eventfds(INTX, [NONE])
    device.trigger_irqs(INTX)
    registers.interrupt()
    device.unmask_irq(INTX)
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    assert irq_fd.count() == 0
    device.unmask_irq(INTX)
    assert irq_fd.wait() == 1


@claim("F24")
def test_an_unmask_eventfd_cannot_outlive_intx(device, registers, irq_fd, other_irq_fd):
    """The eventfd that unmasks INTx is released when INTx is disabled."""
    with refused(EINVAL):
        device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, other_irq_fd.fd))
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.set_irqs(*by_eventfd(VFIO_IRQ_SET_ACTION_UNMASK, other_irq_fd.fd))
    registers.interrupt()
    assert irq_fd.wait() == 1
    device.disable_irqs(INTX)
    other_irq_fd.ring()
    assert irq_fd.count() == 0
    assert other_irq_fd.count() == 1  # vfio did not consume it


@claim("F25")
def test_intx_changes_eventfds_while_its_handler_stays(
    function, device, registers, irq_fd, other_irq_fd
):
    """INTx can switch to another eventfd, to none and back while its handler stays."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.set_irq_eventfds(INTX, [other_irq_fd.fd])
    registers.interrupt()
    assert (other_irq_fd.wait(), irq_fd.count()) == (1, 0)
    device.set_irq_eventfds(INTX, [NONE])
    device.unmask_irq(INTX)
    assert other_irq_fd.count() == 0
    assert handlers(function) == [f"vfio-intx({function})"]
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.unmask_irq(INTX)
    assert (irq_fd.wait(), other_irq_fd.count()) == (1, 0)


@claim("F25")
def test_a_bad_eventfd_leaves_the_old_one_in_place(device, registers, irq_fd):
    """INTx refuses a descriptor that is not an eventfd and keeps the old one."""
    with refused(EBADF):
        device.set_irq_eventfds(INTX, [999])
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    with refused(EBADF):
        device.set_irq_eventfds(INTX, [999])
    with refused(EINVAL):
        device.set_irq_eventfds(INTX, [device.fd])
    registers.interrupt()
    assert irq_fd.wait() == 1


@claim("F29")
def test_a_user_triggers_intx_without_the_hardware(device, irq_fd):
    """A user can trigger INTx without the hardware, which does not mask it."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.trigger_irqs(INTX)
    device.trigger_irqs(INTX)
    assert irq_fd.wait() == 2
    device.set_irqs(*by_bool(VFIO_IRQ_SET_ACTION_TRIGGER, on=False))
    assert irq_fd.count() == 0
    device.set_irqs(*by_bool(VFIO_IRQ_SET_ACTION_TRIGGER, on=True))
    assert irq_fd.wait() == 1


@claim("F68")
def test_intx_is_disabled_and_set_up_again(function, device, registers, irq_fd):
    """INTx can be disabled by a count of 0 and set up again."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    device.disable_irqs(INTX)
    assert handlers(function) == []
    registers.interrupt()
    assert irq_fd.count() == 0
    registers.acknowledge()
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    registers.interrupt()
    assert irq_fd.wait() == 1
    device.close()
    assert handlers(function) == []
