"""Which calls require CAP_SYS_RAWIO?

Thread: 2019-noiommu, "taints the kernel and requires raw I/O user privs". Kernel:
drivers/vfio/group.c, vfio_group_fops_open() and vfio_df_group_open(); drivers/vfio/container.c,
vfio_container_attach_group(), vfio_noiommu_open() and vfio_group_use_container();
drivers/vfio/device_cdev.c, vfio_device_fops_cdev_open(). After each refusal the same user
succeeds, with the capability as the only difference.
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
def test_opening_the_group_needs_the_capability_and_no_uid(
    root_without_rawio, unprivileged_user, pf
):
    """Opening a no-IOMMU group requires CAP_SYS_RAWIO and no particular uid."""
    with refused(EPERM):
        root_without_rawio.open_group(pf)
    held = unprivileged_user.open_group(pf)
    with refused(EPERM):
        root_without_rawio.open_group(pf)
    with refused(EBUSY):
        unprivileged_user.open_group(pf)
    held.close()
    assert unprivileged_user.open(pf)


@claim("D13")
def test_attaching_the_group_needs_the_capability(pf_user, loose_group, empty_container):
    """Attaching a no-IOMMU group requires CAP_SYS_RAWIO; a refusal attaches nothing."""
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        loose_group.set_container(empty_container)
    assert loose_group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    with refused(EINVAL):
        empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    loose_group.set_container(empty_container)
    in_use = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET
    assert loose_group.get_status().flags == in_use


@claim("D14")
def test_setting_the_type_needs_the_capability(pf_user, pf, loose_group, empty_container):
    """Setting the no-IOMMU type requires CAP_SYS_RAWIO; a refusal sets no type."""
    loose_group.set_container(empty_container)
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert type1_outcomes(empty_container) == {EINVAL}
    with refused(EINVAL):
        loose_group.get_device_fd(str(pf))
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert loose_group.get_device_fd(str(pf))


@claim("D15")
def test_the_first_open_of_the_device_needs_the_capability(pf_user, pf, ready_group):
    """The first open of a no-IOMMU device requires CAP_SYS_RAWIO, and again after a close."""
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        ready_group.get_device_fd(str(pf))
    ready_group.get_device_fd(str(pf)).close()
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        ready_group.get_device_fd(str(pf))
    ready_group.unset_container()
    pf.unbind()  # which waits for remaining references to the device
    assert not pf.grouped


@claim("D36")
def test_later_opens_of_the_device_need_no_capability(pf_user, pf, ready_group):
    """A no-IOMMU device that is open can be opened again without CAP_SYS_RAWIO."""
    first = ready_group.get_device_fd(str(pf))
    with pf_user.without(CAP_SYS_RAWIO):
        second = ready_group.get_device_fd(str(pf))
    first.close()
    assert second.get_info().num_regions > 0


@claim("D37")
def test_every_open_of_the_device_needs_the_capability(pf_user, pf, ready_group):
    """Every open of a no-IOMMU device requires CAP_SYS_RAWIO, even if the device is open."""
    first = ready_group.get_device_fd(str(pf))
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        ready_group.get_device_fd(str(pf))
    assert first.get_info().num_regions > 0
    assert ready_group.get_device_fd(str(pf))


@claim("D12", "D15")
def test_using_an_open_device_needs_no_capability(pf_user, pf):
    """Using and closing an open no-IOMMU device does not require CAP_SYS_RAWIO."""
    held = pf_user.open(pf)
    with pf_user.without(CAP_SYS_RAWIO):
        assert held.read_config(0, 4) == bytes.fromhex("8680c910")
        held.reset()
        held.close()
    assert pf_user.open(pf)


@claim("D16")
@pytest.mark.topology("mixed")
def test_opening_the_character_device_needs_the_capability(
    root_without_rawio, unprivileged_user, nic, pf
):
    """Opening a no-IOMMU character device requires CAP_SYS_RAWIO; with an IOMMU it does not."""
    with refused(EPERM):
        Cdev(root_without_rawio, nic.cdev)
    unprivileged_user.open(nic, access="cdev").close()
    assert root_without_rawio.open(pf, access="cdev")
    nic.unbind()  # which waits for remaining references to the device
    assert not nic.grouped


@claim("D16")
def test_binding_the_character_device_needs_no_capability(guest, pf_user, pf):
    """Binding and using a no-IOMMU character device does not require CAP_SYS_RAWIO."""
    cdev, iommufd = Cdev(pf_user, pf.cdev), Iommufd(pf_user)
    with pf_user.without(CAP_SYS_RAWIO):
        assert cdev.bind_iommufd(iommufd) > 0
        assert cdev.get_info().num_regions > 0
    assert not guest.dmesg("opened by user")


@claim("D26")
def test_with_iommufd_the_type_and_the_open_need_the_capability(pf_user, pf, compat_group):
    """With an iommufd as container, the type and the first open require CAP_SYS_RAWIO."""
    container = compat_group.container
    with pf_user.without(CAP_SYS_RAWIO):
        assert outcome(lambda: container.set_iommu(VFIO_NOIOMMU_IOMMU)) == EPERM
        assert outcome(lambda: compat_group.get_device_fd(str(pf))) == EPERM
    container.set_iommu(VFIO_NOIOMMU_IOMMU)
    held = compat_group.get_device_fd(str(pf))
    with pf_user.without(CAP_SYS_RAWIO):
        assert compat_group.get_device_fd(str(pf))
    assert held.get_info().num_regions > 0
