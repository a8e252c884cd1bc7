"""How are users notified of errors and of requests for their device?

Kernel: drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_ctx_trigger_single(); vfio_pci_core.c,
vfio_pci_core_request(); vfio_main.c, vfio_unregister_group_dev().
"""

from errno import EBADF, EINVAL, ENOTTY

import pytest

from vfio_lab.uapi.vfio import (
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

ERROR, REQUEST = VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX
BOTH = pytest.mark.parametrize("index", [ERROR, REQUEST], ids=["error", "request"])
BOOL = VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER
NONE = -1


@claim("F35")
@BOTH
def test_error_and_request_interrupts_are_triggered_after_setup(device, irq_fd, index):
    """The error and request interrupts can be triggered only after they are set up."""
    with refused(EINVAL):
        device.trigger_irqs(index)
    device.set_irqs(index, BOOL, 0, 1, b"\x01")
    device.set_irq_eventfds(index, [irq_fd.fd])
    device.trigger_irqs(index)
    assert irq_fd.wait() == 1
    device.set_irqs(index, BOOL, 0, 1, b"\x00")
    assert irq_fd.count() == 0
    device.set_irqs(index, BOOL, 0, 1, b"\x01")
    assert irq_fd.wait() == 1


@claim("F35")
@BOTH
def test_error_and_request_interrupts_are_disabled_in_two_ways(device, irq_fd, index):
    """A count of 0 and an eventfd of -1 both disable the error and request interrupts."""
    device.set_irq_eventfds(index, [irq_fd.fd])
    device.disable_irqs(index)
    with refused(EINVAL):
        device.trigger_irqs(index)
    with refused(EINVAL):
        device.disable_irqs(index)
    device.set_irq_eventfds(index, [irq_fd.fd])
    device.set_irq_eventfds(index, [NONE])
    with refused(EINVAL):
        device.trigger_irqs(index)
    assert irq_fd.count() == 0


@claim("F35")
@BOTH
def test_error_and_request_interrupts_use_the_last_valid_eventfd(
    device, irq_fd, other_irq_fd, index
):
    """The error and request interrupts use the last valid eventfd and cannot be masked."""
    device.set_irq_eventfds(index, [irq_fd.fd])
    device.set_irq_eventfds(index, [other_irq_fd.fd])
    with refused(EBADF):
        device.set_irq_eventfds(index, [999])
    with refused(EINVAL):
        device.set_irq_eventfds(index, [device.fd])
    with refused(ENOTTY):
        device.set_irqs(index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, 0, 1)
    device.trigger_irqs(index)
    assert (other_irq_fd.wait(), irq_fd.count()) == (1, 0)


@claim("F76")
@BOTH
def test_a_descriptor_below_minus_one_is_no_eventfd(device, irq_fd, index):
    """The error and request interrupts refuse a descriptor below -1."""
    device.set_irq_eventfds(index, [irq_fd.fd])
    with refused(EINVAL):
        device.set_irq_eventfds(index, [-2])
    device.trigger_irqs(index)
    assert irq_fd.wait() == 1


@claim("F35")
def test_error_and_request_interrupts_are_separate(device, irq_fd, other_irq_fd):
    """The error and request interrupts have separate eventfds."""
    device.set_irq_eventfds(ERROR, [irq_fd.fd])
    device.set_irq_eventfds(REQUEST, [other_irq_fd.fd])
    device.set_irq_eventfds(0, [irq_fd.fd])
    device.trigger_irqs(REQUEST)
    assert (other_irq_fd.wait(), irq_fd.count()) == (1, 0)
    device.disable_irqs(REQUEST)
    device.trigger_irqs(ERROR)
    assert (irq_fd.wait(), other_irq_fd.count()) == (1, 0)


@claim("F36")
@pytest.mark.topology("igb-pair")
def test_unbinding_a_device_in_use_notifies_its_user_and_waits(
    guest, remover, nic, nic_device, irq_fd
):
    """Unbinding a device in use signals its request eventfd and waits for the close."""
    nic_device.set_irq_eventfds(REQUEST, [irq_fd.fd])
    unbinding = nic.start_unbind(by=remover)
    assert irq_fd.wait() == 1
    assert guest.dmesg(f"{nic}: Relaying device request to user (#0)", level="notice")
    assert not unbinding.returned
    assert nic_device.get_info().num_regions == 9
    nic_device.close()
    unbinding.wait()
    assert nic.driver is None


@claim("F36")
@pytest.mark.topology("igb-pair")
def test_unbinding_waits_for_a_user_without_a_request_eventfd(guest, remover, nic, nic_device):
    """Unbinding a device whose user has no request eventfd logs this once and waits."""
    unbinding = nic.start_unbind(by=remover)
    blocked = f"{nic}: No device request channel registered, blocked until released by user"
    guest.wait_dmesg(blocked, level="warn")
    assert not unbinding.returned
    nic_device.user.kill()
    unbinding.wait()
    assert nic.driver is None
