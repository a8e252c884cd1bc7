"""What waits while a user's SET_IRQS or reset is under way, and what does not?

Reports: CVE-2024-26810, bc93b9ae0151, 98693e0897f7. Kernel: drivers/vfio/pci/vfio_pci_intrs.c,
vfio_pci_intx_mask(), under igate; vfio_pci_rdwr.c, vfio_pci_ioeventfd_handler(), which must not
wait for memory_lock; vfio_pci_core.c, vfio_pci_core_aer_err_detected().
"""

import pytest

from vfio_lab.client.aer import COMPLETION_TIMEOUT, inject
from vfio_lab.client.eventfd import Eventfd
from vfio_lab.drivers.intel_nic import MTA
from vfio_lab.uapi.pci_regs import PCI_COMMAND, PCI_COMMAND_INTX_DISABLE
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_IOEVENTFD_32,
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
)
from vfio_lab_pytest.claims import claim

SETS, RESETS = "vfio_pci_set_irqs_ioctl", "pci_try_reset_function"
INTX_DISABLED = PCI_COMMAND_INTX_DISABLE.to_bytes(2, "little")


@pytest.fixture
def bell(observer):
    """An eventfd of a user who is not blocked."""
    return Eventfd(observer)


@claim("U10")
def test_the_intx_disable_bit_waits_for_a_set_irqs(guest, user, observer, device):
    """A write of the INTx disable bit waits for the SET_IRQS of another holder of the device."""
    shared = device.passed_to(observer)
    with guest.held(user, SETS) as held:
        setting = device.start_set_irq_eventfds(VFIO_PCI_INTX_IRQ_INDEX, [-1])
        held.wait()
        masking = shared.start_write_config(PCI_COMMAND, INTX_DISABLED)
        assert guest.is_blocked(masking)
    assert (setting.wait().value, masking.wait().value) == (0, len(INTX_DISABLED))


@claim("U11")
def test_an_ioeventfd_signalled_during_a_reset_writes_after_it(
    guest, user, device, registers, bell
):
    """Signalling an ioeventfd during a reset does not wait, and the write follows the reset."""
    heard = bell.passed_to(user)
    device.ioeventfd(VFIO_PCI_BAR0_REGION_INDEX, MTA, 7, heard.fd, VFIO_DEVICE_IOEVENTFD_32)
    with guest.held(user, RESETS) as held:
        resetting = device.start_reset()
        held.wait()
        bell.ring()
    resetting.wait()
    assert registers.read(MTA) == 7


@claim("U12")
def test_an_error_is_signalled_while_a_user_sets_interrupts(
    guest, user, function, device, irq_fd, bell
):
    """The error eventfd is signalled although a SET_IRQS of the user is under way."""
    guest.load("aer_inject")
    device.set_irq_eventfds(VFIO_PCI_ERR_IRQ_INDEX, [bell.passed_to(user).fd])
    with guest.held(user, SETS) as held:
        setting = device.start_set_irq_eventfds(VFIO_PCI_MSIX_IRQ_INDEX, [irq_fd.fd])
        held.wait()
        inject(function, uncorrectable=COMPLETION_TIMEOUT)
        assert bell.wait() == 1
    assert setting.wait().value == 0
