"""How does a mediated device interrupt its user?

Kernel: samples/vfio-mdev/mtty.c, mtty_set_irqs() and mtty_trigger_interrupt();
drivers/vfio/vfio_main.c, vfio_set_irqs_validate_and_prepare().
"""

from errno import EINVAL, ENOTTY

import pytest

from vfio_lab.drivers.mtty import ROOM_BYTES
from vfio_lab.uapi.vfio import (
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.usefixtures("mocks")
MESSAGE = bytes(range(ROOM_BYTES))


@pytest.fixture
def listening(serial_device, irq_fd):
    """A serial port that interrupts its user at each byte that it receives."""
    serial_device.get_info()
    serial_device.set_irq_eventfds(VFIO_PCI_MSI_IRQ_INDEX, [irq_fd.fd])
    return irq_fd


@claim("S20")
def test_what_is_sent_is_received(port):
    """A device without hardware keeps what was written to its BAR."""
    port.send(MESSAGE)
    assert port.receive(ROOM_BYTES) == MESSAGE


@claim("S21")
def test_a_driver_signals_an_eventfd(port, listening):
    """A device without hardware signals the eventfd of its MSI once it is told to."""
    port.send(b"a")
    assert listening.count() == 0
    port.receive(1)
    port.interrupt_when_received()
    port.send(b"a")
    assert listening.wait() == 1


@claim("S22")
def test_an_eventfd_that_is_gone_is_not_signalled(port, serial_device, listening):
    """After the MSI was disabled its eventfd is not signalled."""
    port.interrupt_when_received()
    serial_device.disable_irqs(VFIO_PCI_MSI_IRQ_INDEX)
    port.send(b"a")
    assert listening.count() == 0
    serial_device.set_irq_eventfds(VFIO_PCI_MSI_IRQ_INDEX, [listening.fd])
    port.receive(1)
    port.send(b"a")
    assert listening.wait() == 1


@claim("S23")
def test_only_interrupts_that_exist_are_set(serial_device, irq_fd):
    """MSI-X of a device that has none fails with ENOTTY, a second MSI with EINVAL."""
    serial_device.get_info()
    with refused(ENOTTY):
        serial_device.set_irq_eventfds(VFIO_PCI_MSIX_IRQ_INDEX, [irq_fd.fd])
    with refused(EINVAL):
        serial_device.set_irq_eventfds(VFIO_PCI_MSI_IRQ_INDEX, [irq_fd.fd, irq_fd.fd])
    serial_device.set_irq_eventfds(VFIO_PCI_INTX_IRQ_INDEX, [irq_fd.fd])
