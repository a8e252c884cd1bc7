"""May a PF be reset under its VFs?

Thread: 2023-hot-reset-info, where INFO was to tell for sure whether EXECUTE will work.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_register_device(), where sets of devices are
made, and vfio_pci_dev_set_resettable().
"""

from errno import EINVAL

import pytest

from vfio_lab.uapi.vfio import VFIO_PCI_DEVID_NOT_OWNED
from vfio_lab.vfio import Cdev, open_affected_groups
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hot_reset import (
    MARK,
    NOT_OWNED,
    OWNED,
    WIPED,
    listed,
    marked,
    marks,
)
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused

wherever_vfs_are_listed = pytest.mark.parametrize(
    "topology", ["igb-bus", pytest.param("igb", marks=claim("C04"))], indirect=True
)


@claim("C06")
def test_a_pf_is_reset_under_the_user_of_its_vf(vf_user, marked_pf, vf):
    """Its own group is all EXECUTE asks for, and the VF loses its state unasked."""
    held_vf = marked(vf_user.open(vf, TOKEN))
    marked_pf.hot_reset([marked_pf.group])
    assert marks(marked_pf, held_vf) == [WIPED, WIPED]
    assert held_vf.get_info().num_regions > 0


@claim("C07", "C08")
@wherever_vfs_are_listed
def test_no_set_of_groups_resets_a_pf_with_vfs(pf, vfs, marked_pf):
    """VFs have device sets of their own, in which EXECUTE on the PF does not look."""
    groups = open_affected_groups(marked_pf)
    assert len(groups) == 1 + len(vfs)
    with refused(EINVAL):
        marked_pf.hot_reset([marked_pf.group])
    with refused(EINVAL):
        marked_pf.hot_reset(groups)
    assert marks(marked_pf) == [MARK]
    pf.enable_vfs(0)
    marked_pf.hot_reset([marked_pf.group])
    assert marks(marked_pf) == [WIPED]


@claim("C09")
@pytest.mark.parametrize("topology", ["igb", "igb-bus"], indirect=True)
def test_no_set_of_groups_resets_a_vf(pf, vfs, used_vf):
    """From a VF's side the PF is listed on every kernel, and never in the VF's set."""
    groups = open_affected_groups(marked(used_vf))
    assert used_vf.hot_reset_info().devices == listed(pf, *vfs)
    assert len(groups) == 1 + len(vfs)
    with refused(EINVAL):
        used_vf.hot_reset([used_vf.group])
    with refused(EINVAL):
        used_vf.hot_reset(groups)
    assert marks(used_vf) == [MARK]


@claim("C27", "C26", "C42")
@pytest.mark.topology("igb-bus")
def test_a_pf_by_cdev_does_not_own_its_vfs(pf_user, pf, vfs):
    """They are no part of its set; gone, they are in nobody's way."""
    cdev = marked(pf_user.open(pf, access="cdev"))
    info, stranger = cdev.hot_reset_info(), VFIO_PCI_DEVID_NOT_OWNED
    assert info.flags == NOT_OWNED
    assert info.devids == {str(pf): cdev.devid, str(vfs[0]): stranger, str(vfs[1]): stranger}
    with refused(EINVAL):
        cdev.hot_reset()
    assert marks(cdev) == [MARK]
    pf.enable_vfs(0)
    assert cdev.hot_reset_info().flags == OWNED
    cdev.hot_reset()
    assert marks(cdev) == [WIPED]


@claim("C27", "A39")
@pytest.mark.topology("igb-bus")
def test_a_pf_and_a_vf_on_one_iommufd_do_not_own_each_other(pf_user, pf, vf):
    """Bound together they are still not reset together, from either side."""
    cdev = pf_user.open(pf, TOKEN, access="cdev")
    vf_cdev = Cdev(pf_user, vf.cdev)
    vf_cdev.bind_iommufd(cdev.iommufd, TOKEN)
    seen_by_pf, seen_by_vf = cdev.hot_reset_info(), vf_cdev.hot_reset_info()
    assert seen_by_pf.flags == seen_by_vf.flags == NOT_OWNED
    assert seen_by_pf.devids[str(vf)] == seen_by_vf.devids[str(pf)] == VFIO_PCI_DEVID_NOT_OWNED
    assert seen_by_vf.devids[str(vf)] == vf_cdev.devid
    with refused(EINVAL):
        vf_cdev.hot_reset()
