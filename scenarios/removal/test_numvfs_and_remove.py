"""Do VFs come and go while their PF is removed?

Report: "PCI/IOV: ABBA deadlock", 2026. sriov_numvfs_store() takes the device's lock and then
pci_rescan_remove_lock; remove_store() takes them the other way around. A reset holds the device's
lock for some tenths of a second, so that both wait for it. Kernel: drivers/pci/iov.c,
sriov_numvfs_store(); drivers/pci/pci-sysfs.c, remove_store().
"""

import pytest

from vfio_lab_pytest.claims import claim


@pytest.fixture
def resetter(guest):
    """An administrator who resets."""
    return guest.user("resetter")


@claim("J10")
@pytest.mark.usefixtures("vfs")
def test_vfs_that_are_taken_away_while_their_pf_is_removed_deadlock(
    guest, pf, resetter, observer, remover
):
    """Disabling VFs and removing their PF wait for each other for ever after a reset."""
    resetting = pf.start_write("reset", 1, by=resetter)
    assert guest.is_inside(resetting, "pci_reset_function")
    taking = pf.start_write("sriov_numvfs", 0, by=observer)
    assert guest.is_blocked(taking)
    removing = pf.start_write("remove", 1, by=remover)
    assert guest.is_blocked(removing)
    resetting.wait()
    assert guest.is_blocked(taking)
    assert guest.is_blocked(removing)
    assert pf.present
