"""What is left of the use of a device after the machine slept without power (S3)?

Kernel: drivers/pci/pci.c, pci_restore_state(); drivers/pci/msi/msi.c, __pci_restore_msix_state();
drivers/iommu/intel/iommu.c, iommu_resume(). VFs cannot be judged: the firmware of QEMU's q35 leaves
the window to extended configuration space closed, so the kernel cannot turn SR-IOV on again.
"""

import pytest

from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.whole_system import answering_over_ssh, power_down

pytestmark = pytest.mark.pristine("the agent is reached over SSH")
MESSAGE = bytes(range(64))
HEADER_BYTES = 64


@pytest.fixture
def guest(sleeps, guest):
    """The guest, which still answers after a suspend."""
    del sleeps
    with answering_over_ssh(guest):
        yield guest


@claim("V10")
def test_a_device_is_configured_as_before(guest, device):
    """The header that a user sees is the same after the machine slept."""
    before = device.read_config(0, HEADER_BYTES)
    power_down(guest)
    assert device.read_config(0, HEADER_BYTES) == before


@claim("V11")
@pytest.mark.usefixtures("mastering")
def test_interrupts_arrive_as_before(guest, device, registers, irq_fd):
    """An MSI-X that was set up before the machine slept is signalled after it."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1
    power_down(guest)
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("V12")
def test_memory_is_reached_once_the_device_is_started_again(guest, copier):
    """A device has lost its registers, and reaches what was mapped before once they are set."""
    assert copier.copy(MESSAGE) == MESSAGE
    power_down(guest)
    copier.start()
    assert copier.copy(MESSAGE[::-1]) == MESSAGE[::-1]
