"""Do VFs come and go while their PF is removed?

Report: "PCI/IOV: ABBA deadlock", 2026. sriov_numvfs_store() takes the device's lock and then
pci_rescan_remove_lock; remove_store() takes them the other way around. An administrator who is held
in a reset has the device's lock, so that both wait for it in the order in which they came. Kernel:
drivers/pci/iov.c, sriov_numvfs_store(); drivers/pci/pci-sysfs.c, remove_store().
"""

from errno import ENOENT

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.removal import WAITS_FOR_USER
from vfio_lab_pytest.verdicts import outcome

pytestmark = pytest.mark.topology(TWO_CPUS)
RESETS = "__pci_reset_function_locked"  # under the device's lock


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
    with guest.held(resetter, RESETS) as held:
        resetting = pf.start_write("reset", 1, by=resetter)
        held.wait()
        taking = pf.start_write("sriov_numvfs", 0, by=observer)
        assert guest.is_blocked(taking)
        removing = pf.start_write("remove", 1, by=remover)
        assert guest.is_blocked(removing)
    resetting.wait()
    assert guest.deadlocked(taking, removing) == ["observer", "remover"]


@claim("U01")
def test_vfs_that_are_made_while_their_pf_is_removed_deadlock(
    guest, pf, resetter, observer, remover
):
    """Enabling VFs and removing their PF wait for each other for ever after a reset."""
    with guest.held(resetter, RESETS) as held:
        resetting = pf.start_write("reset", 1, by=resetter)
        held.wait()
        making = pf.start_write("sriov_numvfs", 1, by=observer)
        assert guest.is_blocked(making)
        removing = pf.start_write("remove", 1, by=remover)
        assert guest.is_blocked(removing)
    resetting.wait()
    assert guest.deadlocked(making, removing) == ["observer", "remover"]


@claim("U02")
def test_vfs_that_are_asked_for_while_their_pf_is_removed_are_refused(guest, pf, observer, remover):
    """VFs that are asked for while their PF is unbound and removed: ENOENT, and the PF is gone."""
    with guest.held(remover, WAITS_FOR_USER) as held:
        removing = pf.start_write("remove", 1, by=remover)
        held.wait()
        making = pf.start_write("sriov_numvfs", 1, by=observer)
        assert guest.is_blocked(making)
    removing.wait()
    assert outcome(making.wait) == ENOENT
    assert not pf.present
