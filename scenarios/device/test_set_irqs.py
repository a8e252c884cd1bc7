"""Which VFIO_DEVICE_SET_IRQS calls does the kernel refuse?

Kernel: drivers/vfio/vfio_main.c, vfio_set_irqs_validate_and_prepare().
"""

from errno import EFAULT, EINVAL, ENOTTY
from functools import partial

import pytest

from vfio_lab.client.memory import NOWHERE
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_SET_IRQS,
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_REQ_IRQ_INDEX,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import handlers
from vfio_lab_pytest.verdicts import outcome, refused

MSIX = VFIO_PCI_MSIX_IRQ_INDEX
NONE, BOOL, EVENTFD = (
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_EVENTFD,
)
MASK, UNMASK, TRIGGER = (
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
)
LAST = 0xFFFFFFFF
HEADER_BYTES = 20


def refuse(device, number, *arguments):
    """Expect SET_IRQS to be refused with this errno for each of the arguments."""
    assert [outcome(partial(device.set_irqs, *one)) for one in arguments] == [number] * len(
        arguments
    )


@claim("F32")
def test_a_range_beyond_the_vectors_is_invalid(function, device):
    """VFIO_DEVICE_SET_IRQS refuses a range beyond the vectors of an index."""
    refuse(device, EINVAL, (5, NONE | TRIGGER, 0, 0))
    refuse(device, EINVAL, (MSIX, NONE | TRIGGER, 10, 0), (MSIX, NONE | TRIGGER, 0, 11))
    refuse(device, EINVAL, (MSIX, NONE | TRIGGER, 9, 2), (MSIX, NONE | TRIGGER, 1, LAST))
    refuse(device, EINVAL, (MSIX, NONE | TRIGGER, LAST, 1), (MSIX, NONE | TRIGGER, 0, LAST))
    assert handlers(function) == []


@claim("F32")
def test_flags_name_one_kind_of_data_and_one_action(device, irq_fd):
    """VFIO_DEVICE_SET_IRQS requires exactly one data type and one action."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    refuse(device, EINVAL, (MSIX, TRIGGER, 0, 1), (MSIX, NONE | BOOL | TRIGGER, 0, 1))
    refuse(device, EINVAL, (MSIX, NONE | TRIGGER | 1 << 6, 0, 1), (MSIX, 1 << 31, 0, 1))
    refuse(device, ENOTTY, (MSIX, NONE, 0, 1), (MSIX, NONE | MASK | TRIGGER, 0, 1))
    refuse(device, ENOTTY, (MSIX, NONE | UNMASK | TRIGGER, 0, 1))
    assert irq_fd.count() == 0
    device.trigger_irqs(MSIX)
    assert irq_fd.wait() == 1


@claim("F32")
def test_argsz_must_have_room_for_all_data(device, irq_fd):
    """VFIO_DEVICE_SET_IRQS refuses an argsz without room for the header and all data."""
    with refused(EINVAL):
        device.set_irqs(MSIX, NONE | TRIGGER, 0, 0, argsz=HEADER_BYTES - 1)
    with refused(EINVAL):
        device.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 2, bytes(8), argsz=HEADER_BYTES + 7)
    device.set_irq_eventfds(MSIX, [irq_fd.fd] * 2)
    with refused(EINVAL):
        device.set_irqs(MSIX, BOOL | TRIGGER, 0, 2, bytes([1, 1]), argsz=HEADER_BYTES + 1)
    with refused(EFAULT):
        device.ioctl(VFIO_DEVICE_SET_IRQS, NOWHERE)
    device.set_irqs(MSIX, BOOL | TRIGGER, 0, 2, bytes([1, 1]))
    assert irq_fd.wait() == 2


@claim("F32")
@pytest.mark.parametrize("index", [VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX])
def test_an_index_of_one_interrupt_takes_one(device, irq_fd, index):
    """INTx and the request interrupt accept exactly one eventfd."""
    refuse(device, EINVAL, (index, EVENTFD | TRIGGER, 0, 2, bytes(8)))
    refuse(device, EINVAL, (index, EVENTFD | TRIGGER, 1, 1, bytes(4)))
    refuse(device, EINVAL, (index, EVENTFD | TRIGGER, 0, 0), (index, BOOL | TRIGGER, 0, 0))
    device.set_irq_eventfds(index, [irq_fd.fd])
    refuse(device, EINVAL, (index, EVENTFD | TRIGGER, 0, 0), (index, BOOL | TRIGGER, 0, 0))
    device.trigger_irqs(index)
    assert irq_fd.wait() == 1
