"""What becomes of functions that are removed from the bus, and does a rescan bring them back?

Reports: SPDK 1616, 1816, 690 (a rescan that never returned after the remove of a used device).
Kernel: drivers/pci/pci-sysfs.c, remove_store() and rescan_store(); drivers/pci/remove.c,
pci_stop_and_remove_bus_device_locked(); drivers/vfio/vfio_main.c, vfio_unregister_group_dev().
"""

from errno import ENOENT

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.endings import RESCAN
from vfio_lab_pytest.removal import REQUEST_WITHIN_S, WAITS_FOR_USER, request_channel
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("igb-pair")
FUNCTIONS = "/sys/bus/pci/devices"
GROUPS = "/sys/kernel/iommu_groups"


def rescan(guest):
    """Rescan all buses and return the functions that there are."""
    guest.root.write_file(RESCAN, "1")
    return guest.root.listdir(FUNCTIONS)


@claim("J01")
def test_an_unused_function_is_back_after_a_rescan(guest, user, nic):
    """A removed function that nobody uses is back after a rescan, with a group and no driver."""
    before = guest.root.listdir(FUNCTIONS)
    group = nic.group
    nic.write("remove", 1)
    assert not nic.present
    assert not guest.root.exists(f"{GROUPS}/{group}")
    assert rescan(guest) == before
    assert (nic.driver, nic.grouped) == (None, True)
    assert user.open(on_vfio_pci(guest, "nic0")).get_info().num_regions > 0


@claim("J02")
def test_a_rescan_waits_with_the_removal_for_the_user(guest, nic, nic_device, remover, observer):
    """A removal waits for the user, a rescan waits for the removal, and both end at the close."""
    before = guest.root.listdir(FUNCTIONS)
    removing = nic.start_write("remove", 1, by=remover)
    assert guest.is_inside(removing, WAITS_FOR_USER)
    scanning = observer.start_write_file(RESCAN, "1")
    assert guest.is_blocked(scanning)
    nic_device.close()
    removing.wait()
    scanning.wait()
    assert guest.root.listdir(FUNCTIONS) == before
    assert nic.driver is None


@claim("J03")
def test_a_pf_takes_its_vfs_along_and_comes_back_without(guest, pf, vfs):
    """The removal of a PF removes its VFs; after a rescan the PF has none, and can have them."""
    pf.write("remove", 1)
    assert not any(each.present for each in (pf, *vfs))
    assert str(pf) in rescan(guest)
    assert (pf.numvfs, pf.vfs()) == (0, [])
    assert len(on_vfio_pci(guest, "pf0").enable_vfs(2)) == 2


@claim("J04")
def test_a_pf_is_removed_when_the_users_of_its_vfs_and_its_own_let_go(
    pf_user, vf_user, remover, pf, vf
):
    """The removal of a PF asks the user of a VF first and the PF's own user after that."""
    pf_fd, vf_fd = pf_user.open(pf, TOKEN), vf_user.open(vf, TOKEN)
    asked_pf, asked_vf = request_channel(pf_user, pf_fd), request_channel(vf_user, vf_fd)
    removing = pf.start_write("remove", 1, by=remover)
    assert vf_user.await_event(asked_vf, REQUEST_WITHIN_S) == 1
    vf_fd.close()
    assert pf_user.await_event(asked_pf, REQUEST_WITHIN_S) == 1
    pf_fd.close()
    removing.wait()
    assert not pf.present


@claim("J05")
def test_a_vf_goes_and_comes_by_its_pf_alone(guest, pf, vfs):
    """A VF cannot be removed by itself, and a rescan changes no VFs."""
    with refused(ENOENT):
        vfs[0].write("remove", 1)
    before = guest.root.listdir(FUNCTIONS)
    assert rescan(guest) == before
    pf.enable_vfs(0)
    assert not set(map(str, vfs)) & {*rescan(guest)}
    assert [str(each) for each in pf.enable_vfs(2)] == [str(each) for each in vfs]


@claim("J06")
@pytest.mark.topology("multifunction")
def test_one_function_is_removed_beside_another_in_use(guest, held, sibling):
    """The removal of a function does not wait for the user of another function of the device."""
    sibling.write("remove", 1)
    assert not sibling.present
    assert held.get_info().num_regions > 0
    assert str(sibling) in rescan(guest)
    assert sibling.group == guest.function("nic0").group


@claim("J07")
def test_a_function_is_removed_once(guest, nic, nic_device, remover):
    """A function that is being removed has no file to remove it again."""
    removing = nic.start_write("remove", 1, by=remover)
    assert guest.is_inside(removing, WAITS_FOR_USER)
    with refused(ENOENT):
        nic.write("remove", 1)
    nic_device.close()
    removing.wait()
    rescan(guest)
    nic.write("remove", 1)
    assert not nic.present
