"""Where is CAP_SYS_RAWIO asked for?

Thread: 2019-noiommu, "taints the kernel and requires raw I/O user privs". Kernel:
drivers/vfio/group.c, vfio_group_fops_open() and vfio_df_group_open(); drivers/vfio/container.c,
vfio_container_attach_group(), vfio_noiommu_open() and vfio_group_use_container();
drivers/vfio/device_cdev.c, vfio_device_fops_cdev_open(). The user who is refused is the one who
succeeds next, with the capability as the one thing changed.
"""

from errno import EBUSY, EINVAL, EPERM

import pytest

from vfio_lab.uapi.syscalls import CAP_SYS_RAWIO
from vfio_lab.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_NOIOMMU_IOMMU,
)
from vfio_lab.vfio import Cdev, Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.noiommu import type1_outcomes
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = [pytest.mark.topology("noiommu"), pytest.mark.usefixtures("unsafe")]


@claim("D12")
def test_opening_the_group_takes_the_capability_and_no_uid(humble_root, stranger, pf):
    """Root without it is refused, free or taken as the group may be; a stranger with it is not."""
    with refused(EPERM):
        humble_root.open_group(pf)
    held = stranger.open_group(pf)
    with refused(EPERM):
        humble_root.open_group(pf)
    with refused(EBUSY):
        stranger.open_group(pf)
    held.close()
    assert stranger.open(pf)


@claim("D13")
def test_attaching_the_group_takes_the_capability(pf_user, loose_group, empty_container):
    """Refused, the group is attached to nothing and the container has no group."""
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        loose_group.set_container(empty_container)
    assert loose_group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    with refused(EINVAL):
        empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    loose_group.set_container(empty_container)
    in_use = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET
    assert loose_group.get_status().flags == in_use


@claim("D14")
def test_setting_the_type_takes_the_capability(pf_user, pf, loose_group, empty_container):
    """Refused, the container has no type yet, and the device does not open."""
    loose_group.set_container(empty_container)
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert type1_outcomes(empty_container) == {EINVAL}
    with refused(EINVAL):
        loose_group.get_device_fd(str(pf))
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert loose_group.get_device_fd(str(pf))


@claim("D15")
def test_the_first_open_of_the_device_takes_the_capability(pf_user, pf, ready_group):
    """Asked before the device is open, and again once it was closed; a refusal holds nothing."""
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        ready_group.get_device_fd(str(pf))
    ready_group.get_device_fd(str(pf)).close()
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        ready_group.get_device_fd(str(pf))
    ready_group.unset_container()
    pf.unbind()  # which waits for who still refers to the device
    assert not pf.grouped


@claim("D36")
def test_later_opens_of_the_device_take_no_capability(pf_user, pf, ready_group):
    """While the device is open it opens again for anybody who has the group."""
    first = ready_group.get_device_fd(str(pf))
    with pf_user.without(CAP_SYS_RAWIO):
        second = ready_group.get_device_fd(str(pf))
    first.close()
    assert second.get_info().num_regions > 0


@claim("D37")
def test_every_open_of_the_device_takes_the_capability(pf_user, pf, ready_group):
    """That the device is open already helps nobody, and the refusal harms nobody."""
    first = ready_group.get_device_fd(str(pf))
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        ready_group.get_device_fd(str(pf))
    assert first.get_info().num_regions > 0
    assert ready_group.get_device_fd(str(pf))


@claim("D12", "D15")
def test_using_an_open_device_takes_no_capability(pf_user, pf):
    """Who has the device, however that came, has it: regions, reset, and what closes it."""
    held = pf_user.open(pf)
    with pf_user.without(CAP_SYS_RAWIO):
        assert held.read_config(0, 4) == bytes.fromhex("8680c910")
        held.reset()
        held.close()
    assert pf_user.open(pf)


@claim("D16")
@pytest.mark.topology("mixed")
def test_opening_the_character_device_takes_the_capability(humble_root, stranger, nic, pf):
    """Root without it is refused, a stranger with it is not; with an IOMMU nobody asks."""
    with refused(EPERM):
        Cdev(humble_root, nic.cdev)
    stranger.open(nic, access="cdev").close()
    assert humble_root.open(pf, access="cdev")
    nic.unbind()  # which waits for who still refers to the device
    assert not nic.grouped


@claim("D16")
def test_binding_the_character_device_takes_no_capability(guest, pf_user, pf):
    """Past the open nobody asks, not the bind, nor the device's own ioctls; and nobody is named."""
    cdev, iommufd = Cdev(pf_user, pf.cdev), Iommufd(pf_user)
    with pf_user.without(CAP_SYS_RAWIO):
        assert cdev.bind_iommufd(iommufd) > 0
        assert cdev.get_info().num_regions > 0
    assert not guest.heard("opened by user")


@claim("D26")
def test_an_iommufd_as_container_asks_at_the_type_and_at_the_open(pf_user, pf, compat_group):
    """Attaching takes none, since the group was opened with it; type and first open do."""
    container = compat_group.container
    with pf_user.without(CAP_SYS_RAWIO):
        assert outcome(lambda: container.set_iommu(VFIO_NOIOMMU_IOMMU)) == EPERM
        assert outcome(lambda: compat_group.get_device_fd(str(pf))) == EPERM
    container.set_iommu(VFIO_NOIOMMU_IOMMU)
    held = compat_group.get_device_fd(str(pf))
    with pf_user.without(CAP_SYS_RAWIO):
        assert compat_group.get_device_fd(str(pf))
    assert held.get_info().num_regions > 0
