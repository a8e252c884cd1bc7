"""What if the container of a group without an IOMMU is an iommufd?

Kernel: drivers/iommu/iommufd/vfio_compat.c, iommufd_vfio_compat_set_no_iommu() and
iommufd_vfio_set_iommu(); drivers/vfio/group.c, vfio_df_group_open(). Before b25e271b3779 the
open was skipped but the close was not, and vfio_assert_device_open() warned at each close.
"""

from errno import EINVAL, ENODEV, ENOTTY, EPERM

import pytest

from vfio_lab.uapi.iommufd import IOMMU_VFIO_IOAS_CLEAR, IOMMU_VFIO_IOAS_SET
from vfio_lab.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_NOIOMMU_IOMMU,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU,
)
from vfio_lab.vfio import Container, Iommufd
from vfio_lab.vfio.iommufd import IOMMU_PATH
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import holders
from vfio_lab_pytest.noiommu import type1_outcomes
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.usefixtures("unsafe")

alone = pytest.mark.topology("noiommu")
TYPES = [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_NOIOMMU_IOMMU]
ATTACHED = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET
IGB_ID = bytes.fromhex("8680c910")


@pytest.fixture
def iommufd(pf_user):
    """An iommufd of the PF's user."""
    return Iommufd(pf_user)


@claim("D26")
@alone
def test_an_iommufd_with_a_noiommu_group_offers_one_type(loose_group, compat_container):
    """An iommufd with a no-IOMMU group offers and accepts only the no-IOMMU type."""
    assert [compat_container.check_extension(one) for one in TYPES] == [1, 1, 1]
    loose_group.set_container(compat_container)
    assert [compat_container.check_extension(one) for one in TYPES] == [0, 0, 1]
    tried = [outcome(lambda one=one: compat_container.set_iommu(one)) for one in TYPES]
    assert tried == [EINVAL, EINVAL, 0]


@claim("D41")
@alone
def test_a_noiommu_device_on_an_iommufd_opens_without_a_type(guest, pf, compat_group):
    """A no-IOMMU device on an iommufd opens without a type and closes without a warning."""
    first = compat_group.get_device_fd(str(pf))
    second = compat_group.get_device_fd(str(pf))
    assert guest.dmesg("vfio-noiommu device opened by user", level="warn")
    first.close()
    assert second.read_region(VFIO_PCI_CONFIG_REGION_INDEX, 0, 4) == IGB_ID
    second.reset()
    second.close()
    third = compat_group.get_device_fd(str(pf))
    assert third.read_config(0, 4) == IGB_ID


@claim("D41")
@alone
def test_a_noiommu_device_survives_its_group_and_iommufd(guest, pf_user, pf, loose_group):
    """A no-IOMMU device works after its group and its iommufd are closed, and then frees both."""
    before = holders(guest, "iommufd")
    iommufd = Iommufd(pf_user)
    loose_group.set_container(iommufd)
    held = loose_group.get_device_fd(str(pf))
    assert holders(guest, "iommufd") == before + 1
    iommufd.close()
    loose_group.close()
    assert held.read_config(0, 4) == IGB_ID
    held.close()
    assert holders(guest, "iommufd") == before
    assert pf_user.open(pf).read_config(0, 4) == IGB_ID


@claim("D26")
@alone
def test_an_iommufd_with_a_compat_ioas_refuses_a_noiommu_group(pf, loose_group, iommufd):
    """An iommufd with a compatibility IOAS refuses a no-IOMMU group."""
    iommufd.vfio_ioas(IOMMU_VFIO_IOAS_SET, iommufd.ioas_alloc())
    with refused(EINVAL):
        loose_group.set_container(iommufd)
    assert loose_group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    iommufd.vfio_ioas(IOMMU_VFIO_IOAS_CLEAR)
    loose_group.set_container(iommufd)
    assert loose_group.get_status().flags == ATTACHED
    assert loose_group.get_device_fd(str(pf))


@claim("D26")
@alone
def test_a_compat_ioas_set_after_the_attach_prevents_the_open(pf, loose_group, iommufd):
    """A compatibility IOAS set after the attach prevents the open of a no-IOMMU device."""
    loose_group.set_container(iommufd)
    ioas = iommufd.ioas_alloc()
    iommufd.vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas)
    with refused(EPERM):
        loose_group.get_device_fd(str(pf))
    iommufd.vfio_ioas(IOMMU_VFIO_IOAS_CLEAR)
    held = loose_group.get_device_fd(str(pf))
    iommufd.vfio_ioas(IOMMU_VFIO_IOAS_SET, ioas)
    assert held.read_config(0, 4) == IGB_ID


@claim("D26")
@alone
def test_an_iommufd_with_a_noiommu_group_refuses_type1_ioctls(compat_group):
    """An iommufd with a no-IOMMU group refuses all type1 ioctls."""
    assert type1_outcomes(compat_group.container) == {ENODEV, ENOTTY}
    compat_group.container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert type1_outcomes(compat_group.container) == {ENODEV, ENOTTY}


@claim("D26")
@pytest.mark.topology("mixed")
def test_an_iommufd_that_had_a_noiommu_group_refuses_real_groups(
    pf, loose_group, loose_nic_group, compat_container
):
    """An iommufd that has had a no-IOMMU group refuses real groups.

    An iommufd with a real group refuses no-IOMMU groups.
    """
    loose_nic_group.set_container(compat_container)
    with refused(EINVAL):
        loose_group.set_container(compat_container)
    loose_group.set_container(Container(loose_group.user, IOMMU_PATH))
    assert loose_group.get_device_fd(str(pf)).read_config(0, 4) == IGB_ID
    loose_nic_group.unset_container()
    with refused(EINVAL):
        loose_nic_group.set_container(loose_group.container)


@claim("D24", "D26")
@alone
def test_several_noiommu_groups_share_an_iommufd(
    pf, nic, compat_group, loose_nic_group, compat_container
):
    """Several no-IOMMU groups can share an iommufd as container and leave it one by one."""
    loose_nic_group.set_container(compat_container)
    held = loose_nic_group.get_device_fd(str(nic))
    compat_group.get_device_fd(str(pf)).close()
    compat_group.unset_container()
    assert held.get_info().num_regions > 0


@claim("D42")
@alone
@pytest.mark.complains("WARN")  # the next ioctl of the group dereferences freed memory
def test_the_last_close_releases_a_container_that_no_open_claimed(guest, pf, compat_group):
    """A no-IOMMU device opened on an iommufd and then in a container warns at its last close."""
    first = compat_group.get_device_fd(str(pf))
    compat_group.unset_container()
    container = Container(compat_group.user)
    compat_group.set_container(container)
    container.set_iommu(VFIO_NOIOMMU_IOMMU)
    second = compat_group.get_device_fd(str(pf))
    first.close()
    assert not guest.dmesg("vfio_group_unuse_container")
    second.close()
    assert guest.dmesg("vfio_group_unuse_container")
