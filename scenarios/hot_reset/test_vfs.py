"""Can a PF be hot-reset while it has VFs?

Thread: 2023-hot-reset-info, which wanted hot-reset info to predict whether a hot reset works.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_register_device(), which creates device
sets, and vfio_pci_dev_set_resettable().
"""

from errno import EINVAL

import pytest

from vfio_lab.uapi.vfio import VFIO_PCI_DEVID_NOT_OWNED
from vfio_lab.vfio import Cdev, open_affected_groups
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hot_reset import (
    CANARY,
    NOT_OWNED,
    OWNED,
    WIPED,
    canaries,
    listed,
    with_canary,
)
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused

wherever_vfs_are_listed = pytest.mark.parametrize(
    "topology", ["igb-bus", pytest.param("igb", marks=claim("C04"))], indirect=True
)


@claim("C06")
def test_a_pf_is_reset_under_the_user_of_its_vf(vf_user, marked_pf, vf):
    """A PF can be hot-reset with its own group while another user's VF loses its state."""
    held_vf = with_canary(vf_user.open(vf, TOKEN))
    marked_pf.hot_reset([marked_pf.group])
    assert canaries(marked_pf, held_vf) == [WIPED, WIPED]
    assert held_vf.get_info().num_regions > 0


@claim("C07", "C08")
@wherever_vfs_are_listed
def test_no_set_of_groups_resets_a_pf_with_vfs(pf, vfs, marked_pf):
    """A PF whose VFs are listed cannot be hot-reset, even with the groups of all of them."""
    groups = open_affected_groups(marked_pf)
    assert len(groups) == 1 + len(vfs)
    with refused(EINVAL):
        marked_pf.hot_reset([marked_pf.group])
    with refused(EINVAL):
        marked_pf.hot_reset(groups)
    assert canaries(marked_pf) == [CANARY]
    pf.enable_vfs(0)
    marked_pf.hot_reset([marked_pf.group])
    assert canaries(marked_pf) == [WIPED]


@claim("C09")
@pytest.mark.parametrize("topology", ["igb", "igb-bus"], indirect=True)
def test_no_set_of_groups_resets_a_vf(pf, vfs, used_vf):
    """A VF cannot be hot-reset, even with the groups of its PF and all VFs."""
    groups = open_affected_groups(with_canary(used_vf))
    assert used_vf.hot_reset_info().devices == listed(pf, *vfs)
    assert len(groups) == 1 + len(vfs)
    with refused(EINVAL):
        used_vf.hot_reset([used_vf.group])
    with refused(EINVAL):
        used_vf.hot_reset(groups)
    assert canaries(used_vf) == [CANARY]


@claim("C27", "C26", "C42")
@pytest.mark.topology("igb-bus")
def test_a_cdev_user_of_a_pf_does_not_own_its_vfs(pf_user, pf, vfs):
    """A PF's cdev user does not own its VFs and can do a hot reset only without them."""
    cdev = with_canary(pf_user.open(pf, access="cdev"))
    info, others = cdev.hot_reset_info(), dict.fromkeys(map(str, vfs), VFIO_PCI_DEVID_NOT_OWNED)
    assert info.flags == NOT_OWNED
    assert info.devids == {str(pf): cdev.devid, **others}
    with refused(EINVAL):
        cdev.hot_reset()
    assert canaries(cdev) == [CANARY]
    pf.enable_vfs(0)
    assert cdev.hot_reset_info().flags == OWNED
    cdev.hot_reset()
    assert canaries(cdev) == [WIPED]


@claim("C27", "A39")
@pytest.mark.topology("igb-bus")
def test_a_pf_and_a_vf_on_one_iommufd_do_not_own_each_other(pf_user, pf, vf):
    """A PF and a VF bound to one iommufd cannot be hot-reset together."""
    cdev = pf_user.open(pf, TOKEN, access="cdev")
    vf_cdev = Cdev(pf_user, vf.cdev)
    vf_cdev.bind_iommufd(cdev.iommufd, TOKEN)
    seen_by_pf, seen_by_vf = cdev.hot_reset_info(), vf_cdev.hot_reset_info()
    assert seen_by_pf.flags == seen_by_vf.flags == NOT_OWNED
    assert seen_by_pf.devids[str(vf)] == seen_by_vf.devids[str(pf)] == VFIO_PCI_DEVID_NOT_OWNED
    assert seen_by_vf.devids[str(vf)] == vf_cdev.devid
    with refused(EINVAL):
        vf_cdev.hot_reset()
