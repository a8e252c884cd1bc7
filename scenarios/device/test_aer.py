"""Are users notified of errors of their device?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_aer_err_detected().
"""

from vfio_lab.client.aer import BAD_TLP, COMPLETION_TIMEOUT, inject
from vfio_lab.uapi.pci_regs import PCI_VENDOR_ID
from vfio_lab.uapi.vfio import VFIO_PCI_ERR_IRQ_INDEX
from vfio_lab_pytest.claims import claim

INTEL = 0x8086


@claim("F34")
def test_each_uncorrectable_error_signals_the_error_eventfd(
    guest, function, device, config, irq_fd
):
    """Each uncorrectable error signals the error eventfd once, and a corrected error does not."""
    guest.load("aer_inject")
    device.set_irq_eventfds(VFIO_PCI_ERR_IRQ_INDEX, [irq_fd.fd])
    inject(function, correctable=BAD_TLP)
    inject(function, uncorrectable=COMPLETION_TIMEOUT)
    assert irq_fd.wait() == 1
    inject(function, uncorrectable=COMPLETION_TIMEOUT)
    assert irq_fd.wait() == 1
    device.disable_irqs(VFIO_PCI_ERR_IRQ_INDEX)
    inject(function, uncorrectable=COMPLETION_TIMEOUT)
    assert (config.word(PCI_VENDOR_ID), irq_fd.count()) == (INTEL, 0)
