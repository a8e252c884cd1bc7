"""Do those who make and remove VFs get along with those who use them?

Once they did not: CVE-2022-49434, where a reset and sriov_numvfs waited for each other, and the
lock order that 40ef3edf151e put right. Kernel: drivers/pci/pci.c, pci_dev_lock();
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_sriov_configure().
"""

from fixtures.claims import claim


@claim("B43")
def test_a_reset_waits_for_vfs_to_go(guest, pf, bystander, used_vf, removal):
    """Reset and removal of VFs want the same two locks, and take them in the same order."""
    reset = pf.start_write("reset", 1, by=bystander)
    assert guest.stuck(reset)
    used_vf.close()
    removal.wait()
    reset.wait()
    assert (pf.numvfs, pf.vfs()) == (0, [])
    assert len(pf.enable_vfs(1)) == 1
