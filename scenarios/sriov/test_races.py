"""Can VFs be created and removed while others use them?

A reset and a write to sriov_numvfs deadlocked before the fix of CVE-2022-49434, and 40ef3edf151e
corrected a lock order. Kernel: drivers/pci/pci.c, pci_dev_lock();
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_sriov_configure().
"""

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.pci_regs import PCI_CAP_ID_PM, PCI_PM_CTRL
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.power import D3HOT
from vfio_lab_pytest.tokens import TOKEN


@claim("B43")
def test_a_pf_reset_and_the_removal_of_vfs_do_not_deadlock(guest, pf, observer, used_vf, removal):
    """A sysfs reset of a PF and the removal of its VFs do not deadlock."""
    reset = pf.start_write("reset", 1, by=observer)
    assert guest.is_blocked(reset)
    used_vf.close()
    removal.wait()
    reset.wait()
    assert (pf.numvfs, pf.vfs()) == (0, [])
    assert len(pf.enable_vfs(1)) == 1


@claim("B44")
def test_a_pf_can_be_used_while_its_vfs_are_created(user, vf_user, observer, pf, device, config):
    """Mapping, opening and power changes of a PF complete while its VFs are being created."""
    address = device.mmap_region(VFIO_PCI_BAR0_REGION_INDEX, PAGE_BYTES)
    making = pf.start_write("sriov_numvfs", 7, by=observer)
    user.peek(address, 4, width=4)
    device.group.get_device_fd(str(pf)).close()
    config.set_word(config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL, D3HOT)
    making.wait()
    assert (pf.numvfs, pf.read("power_state")) == (7, "D0")
    device.set_vf_token(TOKEN)
    used = vf_user.open(pf.vfs()[6], TOKEN)
    device.reset()
    assert used.get_info().num_regions > 0
