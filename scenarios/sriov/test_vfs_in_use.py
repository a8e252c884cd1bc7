"""What happens when VFs are removed while one is in use?

Thread: 2020-vf-token. Kernel: drivers/vfio/vfio_main.c, vfio_unregister_group_dev();
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_request(); drivers/pci/iov.c, sriov_numvfs_store().
"""

from errno import EAGAIN, ENODEV
from signal import SIGTERM

from vfio_lab.client.call import Buffer
from vfio_lab.uapi.syscalls import O_RDONLY
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.removal import REQUEST_WITHIN_S, request_channel
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused

RESCAN = "/sys/bus/pci/rescan"
NOT_YET_S = 7.0
BY_THEN_S = 8.0
UNASKED = "No device request channel registered, blocked until released by user"


@claim("B15")
def test_disabling_vfs_waits_for_the_user_of_a_vf(guest, pf, vf, other_vf, used_vf, removal):
    """Disabling VFs asks the user of a VF once and waits; the VF works until it is closed."""
    asked = f"vfio-pci {vf}: Relaying device request to user (#0)"
    assert len(guest.dmesg(asked, level="notice")) == 1
    assert used_vf.get_info().num_regions > 0
    assert not removal.returned
    used_vf.close()
    removal.wait()
    assert (pf.numvfs, vf.present, other_vf.present) == (0, False, False)


@claim("B15")
def test_the_user_of_a_vf_is_asked_again_every_ten_seconds(guest, vf_user, device_request, removal):
    """A VF's user is asked again after ten seconds, by eventfd but not in the log."""
    assert vf_user.await_event(device_request, NOT_YET_S) == 0
    assert vf_user.await_event(device_request, BY_THEN_S) == 1
    assert len(guest.dmesg("Relaying device request to user")) == 1
    assert not removal.returned
    vf_user.kill()
    removal.wait()


@claim("B15")
def test_unused_vfs_are_removed_before_the_wait_for_a_used_one(
    pf, vf, other_vf, vf_user, remover, pf_user
):
    """VFs are removed one by one, and the removal waits only at a VF in use."""
    pf_user.open(pf, TOKEN).close()
    used = vf_user.open(other_vf, TOKEN)
    asked = request_channel(vf_user, used)
    removal = pf.start_write("sriov_numvfs", 0, by=remover)
    assert vf_user.await_event(asked, REQUEST_WITHIN_S) == 1
    assert (vf.present, other_vf.present) == (False, True)
    used.close()
    removal.wait()
    assert (pf.numvfs, other_vf.present) == (0, False)


@claim("B16", "B17")
def test_a_signal_does_not_end_the_wait(guest, remover, pf, vf, used_vf):
    """A signal does not end the wait for a VF's user, which becomes uninterruptible."""
    removal = pf.start_write("sriov_numvfs", 0, by=remover)
    guest.wait_dmesg(f"vfio-pci {vf}: {UNASKED}", level="warn")
    remover.start_kill(SIGTERM)
    assert guest.is_blocked(removal)
    blocked = f'task "remover" ({remover.pid}) blocked until device is released'
    used_vf.close()
    assert (pf.numvfs, vf.present) == (0, False)
    assert len(guest.dmesg(f"vfio-pci {vf}: Device is currently in use, {blocked}", level="warn"))
    assert len(guest.dmesg(UNASKED)) == 1


@claim("B18")
def test_reading_numvfs_hangs_during_the_removal_of_vfs(guest, pf, observer, used_vf, removal):
    """Reading sriov_numvfs hangs while the removal of VFs waits for a user."""
    attribute = observer.open_path(f"{pf.path}/sriov_numvfs", O_RDONLY)
    reading = observer.start("read", attribute, Buffer(bytes(2), out=True), 2)
    assert guest.is_blocked(reading)
    assert not removal.returned
    used_vf.close()
    removal.wait()
    assert reading.wait().out == (b"0\n",)


@claim("B18")
def test_a_rescan_hangs_during_the_removal_of_vfs(guest, observer, used_vf, removal):
    """A rescan hangs while the removal of VFs waits for a user."""
    rescan = observer.start_write_file(RESCAN, "1")
    assert guest.is_blocked(rescan)
    assert not removal.returned
    used_vf.close()
    removal.wait()
    rescan.wait()


@claim("B18")
def test_the_pf_does_not_open_during_the_removal_of_vfs(pf_user, pf, used_vf, removal):
    """Opening the PF fails with EAGAIN while the removal of VFs waits for a user."""
    with refused(EAGAIN):
        pf_user.open(pf, TOKEN)
    used_vf.close()
    removal.wait()
    assert pf_user.open(pf, TOKEN).get_info().num_regions > 0


@claim("B18")
def test_the_pf_is_not_reset_during_the_removal_of_vfs(used_vf, marked_pf, removal):
    """Resetting the PF fails with EAGAIN while the removal of VFs waits for a user."""
    with refused(EAGAIN):
        marked_pf.reset()
    used_vf.close()
    removal.wait()
    marked_pf.reset()


@claim("B19")
def test_a_vf_that_is_being_removed_does_not_open_again(
    root, pf, vf, vf_user, remover, used_vf, device_request
):
    """A VF that is being removed stays usable for its user but cannot be opened again."""
    used_vf.group.get_device_fd(f"{vf} vf_token={TOKEN}").close()
    node = vf.cdev
    removal = pf.start_write("sriov_numvfs", 0, by=remover)
    assert vf_user.await_event(device_request, REQUEST_WITHIN_S) == 1
    with refused(ENODEV):
        used_vf.group.get_device_fd(f"{vf} vf_token={TOKEN}")
    assert not root.exists(node)
    assert not removal.returned
    used_vf.close()
    removal.wait()


@claim("A39", "B15")
def test_removing_vfs_waits_for_a_cdev_user(pf_user, vf_user, pf, vf, remover):
    """Removing VFs waits for a user who opened a VF on the cdev path, too."""
    pf_user.open(pf, TOKEN).close()
    bound = vf_user.open(vf, TOKEN, access="cdev")
    asked = request_channel(vf_user, bound)
    removal = pf.start_write("sriov_numvfs", 0, by=remover)
    assert vf_user.await_event(asked, REQUEST_WITHIN_S) == 1
    assert not removal.returned
    bound.close()
    removal.wait()
    assert (pf.numvfs, vf.present) == (0, False)
