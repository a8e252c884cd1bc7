"""What is left of a call that found no free descriptor?

Kernel: drivers/vfio/group.c, vfio_device_open_file(); drivers/vfio/pci/vfio_pci_dmabuf.c,
vfio_pci_core_feature_dma_buf(); drivers/vfio/device_cdev.c, vfio_device_fops_cdev_open().
"""

from errno import EMFILE

import pytest

from vfio_lab.client.eventfd import Eventfd
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import handlers
from vfio_lab_pytest.exhaustion import GIVERS, no_descriptor_left
from vfio_lab_pytest.verdicts import refused


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param("a container", marks=claim("M01")),
        pytest.param("a group", marks=claim("M02")),
        pytest.param("a device of a group", marks=claim("M03")),
        pytest.param("an iommufd", marks=[claim("M04"), pytest.mark.needs("IOMMUFD")]),
        pytest.param(
            "a character device", marks=[claim("M05"), pytest.mark.needs("VFIO_DEVICE_CDEV")]
        ),
        pytest.param(
            "a dma-buf",
            marks=[claim("M06"), pytest.mark.needs("VFIO_PCI_DMABUF", "VFIO_DEVICE_CDEV")],
        ),
    ],
)
def test_a_call_without_a_free_descriptor_leaves_nothing(guest, user, pf, wanted):
    """A call that hands out a descriptor fails with EMFILE if there is none, and works later."""
    give = GIVERS[wanted](user, pf)
    with no_descriptor_left(user), refused(EMFILE):
        give()
    assert give()
    user.kill()
    pf.unbind()
    assert pf.driver is None
    assert "vfio" not in guest.root.read_file("/proc/iomem")


@claim("M07")
@pytest.mark.usefixtures("mastering")
def test_an_interrupt_takes_no_descriptor(user, device, registers, function):
    """Interrupts can be set up and used by a user who has no free descriptor."""
    irq_fd = Eventfd(user)
    with no_descriptor_left(user):
        device.set_irq_eventfds(MSIX, [irq_fd.fd])
        registers.interrupt_vector(0)
        assert irq_fd.wait() == 1
        device.disable_irqs(MSIX)
    assert handlers(function) == []
