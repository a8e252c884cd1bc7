"""What happens to VFs when their PF leaves vfio-pci?

Thread: 2018-unmanaged-sriov, which asked for a clean-up on unload. Kernel:
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_unregister_device().
"""

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.removal import REQUEST_WITHIN_S, request_channel

RESCAN = "/sys/bus/pci/rescan"


@claim("B20")
def test_unbinding_a_pf_removes_its_vfs(pf, vf, other_vf):
    """The VFs of a PF do not outlive its time on vfio-pci."""
    pf.unbind()
    assert (pf.driver, pf.numvfs, vf.present, other_vf.present) == (None, 0, False, False)


@claim("B20")
def test_unbinding_a_pf_waits_for_the_user_of_a_vf(
    pf, vf, vf_user, remover, used_vf, device_request
):
    """The VF stays until it is closed, and the PF is not free before."""
    unbinding = pf.start_unbind(by=remover)
    assert vf_user.await_event(device_request, REQUEST_WITHIN_S) == 1
    assert (unbinding.returned, vf.present) == (False, True)
    used_vf.close()
    unbinding.wait()
    assert (pf.driver, pf.numvfs, vf.present) == (None, 0, False)


@claim("B45")
def test_who_looks_for_devices_while_a_vf_is_going_waits_for_its_user(
    guest, pf, vf_user, remover, bystander, device_request
):
    """No lock keeps a rescan from the VF of a PF being unbound, and there it hangs.

    Nobody closes the VF here: the rescan would go on from a list that the VF has left by then,
    and crash now and then.
    """
    bystander.write_file(RESCAN, "1")
    unbinding = pf.start_unbind(by=remover)
    assert vf_user.await_event(device_request, REQUEST_WITHIN_S) == 1
    assert guest.stuck(bystander.start_write_file(RESCAN, "1"))
    assert not unbinding.returned


@claim("B21")
def test_unbinding_a_pf_waits_for_its_own_user_last(
    pf, vf, pf_user, vf_user, remover, used_vf, marked_pf, device_request
):
    """First the VF's user is asked and waited for, then the PF's."""
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
def test_a_pf_comes_to_its_host_driver_without_vfs(guest, pf, vf):
    """What vfio-pci made it takes along; igb starts with none and may make its own."""
    guest.load("igb")
    pf.bind("igb")
    assert (pf.driver, pf.numvfs, vf.present) == ("igb", 0, False)
    assert len(pf.enable_vfs(2)) == 2
