"""Do SR-IOV and the VF token work without an IOMMU?

Thread: 2019-noiommu, where no-IOMMU mode was said to "re-use vfio-pci in its entirety". Kernel:
drivers/vfio/pci/vfio_pci_core.c does not know no-IOMMU mode; drivers/vfio/group.c,
vfio_group_find_or_alloc() does.
"""

from errno import EACCES, EINVAL

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.noiommu import TAINT_USER, allow_noiommu
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import refused

pytestmark = [pytest.mark.topology("noiommu"), pytest.mark.usefixtures("taints", "unsafe")]

WARNING = "Adding kernel taint for vfio-noiommu group on device"


@claim("D30")
def test_a_vf_needs_the_token_of_its_pf(pf_user, vf_user, pf, vf):
    """A no-IOMMU VF opens only with its PF's token."""
    pf_user.open(pf, TOKEN)
    with refused(EACCES):
        vf_user.open(vf)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN).get_info().num_regions > 0


@claim("D30")
def test_a_pf_of_a_used_vf_needs_the_token(pf_user, pf, used_vf):
    """The PF of a no-IOMMU VF in use does not open without the token until the VF is closed."""
    with refused(EACCES):
        pf_user.open(pf)
    pf_user.open(pf, TOKEN).close()
    used_vf.close()
    assert pf_user.open(pf)


@claim("D30")
def test_a_device_without_sriov_takes_no_token(pf_user, nic):
    """A no-IOMMU device that is neither PF nor VF refuses a token."""
    with refused(EINVAL):
        pf_user.open(nic, TOKEN)
    assert pf_user.open(nic)


@claim("D39")
def test_the_character_device_needs_the_token_too(pf_user, vf_user, pf, vf):
    """Binding the character device of a no-IOMMU VF requires the token set through the group."""
    pf_user.open(pf, TOKEN)
    with refused(EACCES):
        vf_user.open(vf, access="cdev")
    assert vf_user.open(vf, TOKEN, access="cdev")


@claim("D31")
def test_vfs_are_bound_at_once_with_a_group_and_a_warning_each(taints, guest, pf, vfs):
    """New VFs without an IOMMU are bound at once, each with a group and a warning of its own."""
    assert [vf.driver for vf in vfs] == ["vfio-pci", "vfio-pci"]
    assert len({pf.group, *(vf.group for vf in vfs)}) == 3
    nodes = {f"noiommu-{function.group}" for function in (pf, *vfs)}
    assert nodes <= set(guest.root.listdir("/dev/vfio"))
    warned = [len(guest.dmesg(f"vfio-pci {each}: {WARNING}", level="warn")) for each in (pf, *vfs)]
    assert warned == [1, 1, 1]
    assert guest.taints() == taints | {TAINT_USER}


@claim("D31")
def test_the_groups_of_vfs_go_with_them(guest, pf, vfs):
    """Disabling SR-IOV removes the no-IOMMU groups and nodes of the VFs and keeps the PF's."""
    assert pf.enable_vfs(0) == []
    assert [vf.present for vf in vfs] == [False, False]
    assert guest.root.listdir("/sys/kernel/iommu_groups") == [str(pf.group)]
    assert set(guest.root.listdir("/dev/vfio")) - {"devices"} == {"vfio", f"noiommu-{pf.group}"}


@claim("D32")
def test_with_noiommu_mode_off_again_new_vfs_stay_unbound(guest, pf):
    """With enable_unsafe_noiommu_mode off again, new VFs are created and stay unbound."""
    allow_noiommu(guest, allowed=False)
    vfs = pf.enable_vfs(2)
    assert (pf.numvfs, pf.driver) == (2, "vfio-pci")
    assert [(vf.driver, vf.grouped) for vf in vfs] == [(None, False), (None, False)]
    allow_noiommu(guest)
    vfs[1].bind("vfio-pci")
    assert [vf.driver for vf in vfs] == [None, "vfio-pci"]
