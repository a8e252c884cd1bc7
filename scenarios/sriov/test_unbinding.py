"""What happens to VFs when their PF leaves vfio-pci?

Thread: 2018-unmanaged-sriov, which asked for a clean-up on unload. Kernel:
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_unregister_device().
"""

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.removal import REQUEST_WITHIN_S, request_channel

RESCAN = "/sys/bus/pci/rescan"


@claim("B20")
def test_unbinding_a_pf_removes_its_vfs(pf, vf, other_vf):
    """Unbinding a PF from vfio-pci removes its VFs."""
    pf.unbind()
    assert (pf.driver, pf.numvfs, vf.present, other_vf.present) == (None, 0, False, False)


@claim("B20")
def test_unbinding_a_pf_waits_for_the_user_of_a_vf(
    pf, vf, vf_user, remover, used_vf, device_request
):
    """Unbinding a PF waits until a VF in use is closed."""
    unbinding = pf.start_unbind(by=remover)
    assert vf_user.await_event(device_request, REQUEST_WITHIN_S) == 1
    assert (unbinding.returned, vf.present) == (False, True)
    used_vf.close()
    unbinding.wait()
    assert (pf.driver, pf.numvfs, vf.present) == (None, 0, False)


@claim("B45")
@pytest.mark.pristine("it ends with a rescan that may crash the kernel")
def test_a_rescan_hangs_while_an_unbind_waits_for_a_vf_user(
    guest, pf, vf_user, remover, observer, device_request
):
    """A rescan hangs at the VF in use of a PF that is being unbound, and no lock prevents that.

    The scenario does not close the VF: the rescan would continue from a list that the VF has left
    and crash sometimes.
    """
    observer.write_file(RESCAN, "1")
    unbinding = pf.start_unbind(by=remover)
    assert vf_user.await_event(device_request, REQUEST_WITHIN_S) == 1
    assert guest.is_blocked(observer.start_write_file(RESCAN, "1"))
    assert not unbinding.returned


@claim("B21")
def test_unbinding_a_pf_waits_for_its_own_user_last(
    pf, vf, pf_user, vf_user, remover, used_vf, marked_pf, device_request
):
    """Unbinding a PF first waits for the user of its VF and then for its own user."""
    pf_request = request_channel(pf_user, marked_pf)
    unbinding = pf.start_unbind(by=remover)
    assert vf_user.await_event(device_request, REQUEST_WITHIN_S) == 1
    assert pf_user.await_event(pf_request, 0) == 0
    used_vf.close()
    assert pf_user.await_event(pf_request, REQUEST_WITHIN_S) == 1
    assert (unbinding.returned, vf.present) == (False, False)
    marked_pf.close()
    unbinding.wait()
    assert pf.driver is None


@claim("B22")
def test_a_pf_moves_to_its_host_driver_without_vfs(guest, pf, vf):
    """A PF that moves from vfio-pci to igb has no VFs, and igb can create its own."""
    guest.load("igb")
    pf.bind("igb")
    assert (pf.driver, pf.numvfs, vf.present) == ("igb", 0, False)
    assert len(pf.enable_vfs(2)) == 2
