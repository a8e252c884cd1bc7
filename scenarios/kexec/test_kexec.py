"""What does a kernel find that was started by kexec while devices were in use?

Kernel: kernel/kexec_core.c, kernel_kexec(); drivers/pci/pci-driver.c, pci_device_shutdown();
drivers/pci/iov.c, sriov_init(); drivers/pci/msi/pcidev_msi.c, pci_msix_init();
drivers/iommu/intel/iommu.c, intel_iommu_shutdown().
"""

from errno import EACCES, EBUSY

import pytest

from vfio_lab.client.config_space import ConfigSpace
from vfio_lab.uapi.pci_regs import (
    PCI_CAP_ID_MSIX,
    PCI_COMMAND,
    PCI_COMMAND_MASTER,
    PCI_MSIX_FLAGS,
    PCI_MSIX_FLAGS_ENABLE,
)
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import copier_of, loopback_of
from vfio_lab_pytest.iommus import on_every_translating_iommu
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused
from vfio_lab_pytest.whole_system import restart

pytestmark = [
    pytest.mark.usefixtures("restartable"),
    pytest.mark.pristine("it starts another kernel"),
]
MESSAGE = bytes(range(64))


@claim("W01")
def test_a_used_device_is_free_for_the_next_kernel(guest, user, function):
    """A device that was open when its kernel was replaced is opened under the next one."""
    user.open(function)
    with refused(EBUSY):
        guest.user("other").open(function)
    restart(guest)
    again = on_vfio_pci(guest, "pf0")
    assert guest.user("other").open(again).get_info().num_regions


@claim("W02")
def test_vfs_do_not_outlive_their_kernel(guest, pf, pf_user, vf_user, vf):
    """VFs that were in use are gone under the next kernel, and can be enabled again."""
    pf_user.open(pf, token=TOKEN)
    vf_user.open(vf, token=TOKEN)
    restart(guest)
    pf = on_vfio_pci(guest, "pf0")
    assert (pf.numvfs, pf.vfs()) == (0, [])
    assert len(pf.enable_vfs(2)) == 2


@claim("W03")
def test_a_used_device_is_no_bus_master_under_the_next_kernel(guest, copier, hardware):
    """Kexec ends the DMA of a device in use, which the next kernel knows nothing of."""
    assert copier.copy(MESSAGE) == MESSAGE
    assert hardware.word(PCI_COMMAND) & PCI_COMMAND_MASTER
    restart(guest)
    found = ConfigSpace.of_hardware(guest.function("pf0"))
    assert not found.word(PCI_COMMAND) & PCI_COMMAND_MASTER


@claim("W04")
def test_the_interrupts_of_a_used_device_are_off_under_the_next_kernel(
    guest, device, irq_fd, hardware
):
    """MSI-X that a user had set up is off under the next kernel."""
    flags = hardware.capability(PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    assert hardware.word(flags) & PCI_MSIX_FLAGS_ENABLE
    restart(guest)
    found = ConfigSpace.of_hardware(guest.function("pf0"))
    assert not found.word(flags) & PCI_MSIX_FLAGS_ENABLE


@claim("W05")
@on_every_translating_iommu
def test_a_used_device_copies_under_the_next_kernel(guest, copier):
    """A device that copied memory for a user copies that of a user of the next kernel."""
    assert copier.copy(MESSAGE) == MESSAGE
    restart(guest)
    device = guest.user("next").open(on_vfio_pci(guest, "pf0"))
    next_copier = copier_of(loopback_of(device), device.container)
    assert next_copier.copy(MESSAGE[::-1]) == MESSAGE[::-1]


@claim("W06")
def test_a_token_does_not_outlive_its_kernel(guest, pf, pf_user):
    """The next kernel gives the PF a random token, whatever token its user had set."""
    pf_user.open(pf, token=TOKEN)
    restart(guest)
    pf = on_vfio_pci(guest, "pf0")
    vf, _ = pf.enable_vfs(2)
    with refused(EACCES):
        guest.user("other").open(vf, token=TOKEN)
    guest.user("next").open(pf, token=TOKEN)
    assert guest.user("other").open(vf, token=TOKEN)
