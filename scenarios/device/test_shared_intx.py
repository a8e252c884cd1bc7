"""How do devices share an interrupt line, and what if they cannot?

Kernel: drivers/vfio/pci/vfio_pci_intrs.c, vfio_intx_enable(), vfio_intx_handler(). The two
functions of the NIC share one line. nointxmask declares that devices have no INTx disable bit.
"""

from errno import EBUSY

import pytest

from vfio_lab.drivers.e1000 import E1000
from vfio_lab.uapi.pci_regs import PCI_COMMAND, PCI_COMMAND_INTX_DISABLE
from vfio_lab.uapi.vfio import VFIO_PCI_INTX_IRQ_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import handlers, turn_off, turn_on
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("multifunction")
INTX = VFIO_PCI_INTX_IRQ_INDEX
NOINTXMASK = "/sys/module/vfio_pci/parameters/nointxmask"


@pytest.fixture
def function(guest):
    """The first function of the NIC."""
    return on_vfio_pci(guest, "nic0")


@pytest.fixture
def twin(guest):
    """The second function of the NIC."""
    return on_vfio_pci(guest, "nic1")


@pytest.fixture
def unmaskable(guest):
    """vfio-pci loaded with nointxmask, so that it does not use the INTx disable bit."""
    guest.unload("vfio-pci")
    guest.load("vfio-pci", "nointxmask=1")


@claim("F73")
def test_two_devices_share_an_interrupt_line(twin, device, registers, irq_fd, other_irq_fd):
    """Two devices on one interrupt line receive only their own interrupts."""
    other = device.group.get_device_fd(str(twin))
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    other.set_irq_eventfds(INTX, [other_irq_fd.fd])
    registers.interrupt()
    assert (irq_fd.wait(), other_irq_fd.count()) == (1, 0)
    E1000(other).interrupt()
    assert (other_irq_fd.wait(), irq_fd.count()) == (1, 0)
    registers.acknowledge()
    device.unmask_irq(INTX)
    assert (irq_fd.count(), other_irq_fd.count()) == (0, 0)
    E1000(other).acknowledge()


@claim("F26")
def test_a_device_with_nointxmask_cannot_share_its_line(guest, user, function, twin):
    """A device bound with nointxmask cannot share its interrupt line: EBUSY."""
    guest.root.write_file(NOINTXMASK, "Y")
    twin.bind("vfio-pci")
    device, eventfd = user.open(function), user.eventfd()
    other = device.group.get_device_fd(str(twin))
    device.set_irq_eventfds(INTX, [eventfd])
    with refused(EBUSY):
        other.set_irq_eventfds(INTX, [eventfd])
    assert handlers(twin) == []
    device.disable_irqs(INTX)
    other.set_irq_eventfds(INTX, [eventfd])
    with refused(EBUSY):
        device.set_irq_eventfds(INTX, [eventfd])


@claim("F74")
@pytest.mark.usefixtures("unmaskable", "twin")
def test_intx_with_nointxmask_signals_once_until_it_is_unmasked(
    device, registers, hardware, irq_fd
):
    """INTx with nointxmask is masked when it is signalled and works again after an unmask."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    registers.interrupt()
    assert irq_fd.wait() == 1
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE == 0
    assert irq_fd.count() == 0
    device.unmask_irq(INTX)
    assert irq_fd.wait() == 1
    registers.acknowledge()
    device.unmask_irq(INTX)
    assert irq_fd.count() == 0
    registers.interrupt()
    assert irq_fd.wait() == 1


@claim("F74")
@pytest.mark.usefixtures("unmaskable", "twin")
def test_intx_with_nointxmask_is_masked_by_its_user(device, registers, config, irq_fd):
    """INTx with nointxmask can be masked by VFIO_DEVICE_SET_IRQS and by the disable bit."""
    turn_on(config, PCI_COMMAND_INTX_DISABLE)
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    registers.interrupt()
    assert irq_fd.count() == 0
    turn_off(config, PCI_COMMAND_INTX_DISABLE)
    assert irq_fd.wait() == 1
    registers.acknowledge()
    device.unmask_irq(INTX)
    device.mask_irq(INTX)
    registers.interrupt()
    assert irq_fd.count() == 0


@claim("F111")
@pytest.mark.usefixtures("unmaskable", "twin")
def test_intx_asserted_when_it_is_set_up_masked_is_signalled_after_the_unmask(
    device, registers, config, irq_fd
):
    """INTx with nointxmask that is set up masked while it is asserted is signalled later."""
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    registers.interrupt()
    assert irq_fd.wait() == 1
    device.disable_irqs(INTX)
    turn_on(config, PCI_COMMAND_INTX_DISABLE)
    device.set_irq_eventfds(INTX, [irq_fd.fd])
    assert irq_fd.count() == 0
    turn_off(config, PCI_COMMAND_INTX_DISABLE)
    assert irq_fd.wait() == 1
