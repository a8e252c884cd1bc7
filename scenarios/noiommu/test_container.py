"""How does a container treat groups without an IOMMU?

Thread: 2019-noiommu ("vfio explicitly does not provide a DMA mapping solution for no-iommu use
cases") and mainline. Kernel: drivers/vfio/container.c, vfio_noiommu_ioctl(),
vfio_iommu_driver_allowed(), vfio_ioctl_set_iommu(), vfio_container_attach_group().
"""

from errno import EBUSY, EINVAL, ENODEV, ENOTTY, EPERM

import pytest

from vfio_lab.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_NOIOMMU_IOMMU,
    VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU,
)
from vfio_lab.vfio import Container
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.noiommu import allow_noiommu, type1_outcomes
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.usefixtures("unsafe")

alone = pytest.mark.topology("noiommu")
mixed = pytest.mark.topology("mixed")
EXTENSIONS = range(12)  # VFIO_TYPE1_IOMMU is 1, VFIO_UPDATE_VADDR 10
WRONG_TYPES = [0, VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_NOIOMMU_IOMMU + 1]


@claim("D19")
@alone
def test_a_container_with_a_noiommu_group_offers_one_type(guest, loose_group, empty_container):
    """A container with a no-IOMMU group offers the no-IOMMU type alone, or none at all."""
    loose_group.set_container(empty_container)
    offered = [one for one in EXTENSIONS if empty_container.check_extension(one)]
    assert offered == [VFIO_NOIOMMU_IOMMU]
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert [one for one in EXTENSIONS if empty_container.check_extension(one)] == offered
    allow_noiommu(guest, allowed=False)
    assert not any(map(empty_container.check_extension, EXTENSIONS))


@claim("D19")
@alone
def test_an_empty_container_offers_all_types_again(pf, loose_group, empty_container):
    """A container that its last no-IOMMU group has left offers all types again."""
    loose_group.set_container(empty_container)
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    loose_group.unset_container()
    assert empty_container.check_extension(VFIO_TYPE1v2_IOMMU) == 1
    loose_group.set_container(empty_container)
    with refused(EINVAL):
        loose_group.get_device_fd(str(pf))
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert loose_group.get_device_fd(str(pf))


@claim("D19", "D20")
@mixed
def test_a_container_with_a_real_group_offers_no_noiommu_type(loose_group, empty_container):
    """A container with a real group does not offer the no-IOMMU type."""
    loose_group.set_container(empty_container)
    assert empty_container.check_extension(VFIO_NOIOMMU_IOMMU) == 0
    assert empty_container.check_extension(VFIO_TYPE1v2_IOMMU) == 1
    with refused(ENODEV):
        empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    empty_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert empty_container.check_extension(VFIO_NOIOMMU_IOMMU) == 0


@claim("D20")
@alone
def test_a_noiommu_container_refuses_other_types(guest, loose_group, empty_container):
    """A no-IOMMU container refuses all other types, and its own while the parameter is off."""
    loose_group.set_container(empty_container)
    tried = [outcome(lambda one=one: empty_container.set_iommu(one)) for one in WRONG_TYPES]
    assert tried == [ENODEV] * len(WRONG_TYPES)
    allow_noiommu(guest, allowed=False)
    with refused(ENODEV):
        empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    allow_noiommu(guest)
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    with refused(EINVAL):
        empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)


@claim("D21")
@mixed
def test_a_noiommu_container_refuses_type1_ioctls(pf_user, pf, loose_nic_group, empty_container):
    """A no-IOMMU container answers ENOTTY to every type1 ioctl."""
    loose_nic_group.set_container(empty_container)
    assert type1_outcomes(empty_container) == {EINVAL}
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert type1_outcomes(empty_container) == {ENOTTY}
    assert type1_outcomes(pf_user.open(pf).container) == {0}


@claim("D22")
@alone
def test_a_device_does_not_open_before_the_container_has_a_type(pf, loose_group, empty_container):
    """A no-IOMMU device does not open without a container that has a type."""
    with refused(EINVAL):
        loose_group.get_device_fd(str(pf))
    loose_group.set_container(empty_container)
    with refused(EINVAL):
        loose_group.get_device_fd(str(pf))
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert loose_group.get_device_fd(str(pf))


@claim("D23")
@mixed
def test_a_container_of_a_real_group_refuses_a_noiommu_group(
    pf_user, nic, loose_group, loose_nic_group
):
    """The container of a real group refuses a no-IOMMU group, with or without a type."""
    real, fake = Container(pf_user), Container(pf_user)
    loose_group.set_container(real)
    with refused(EPERM):
        loose_nic_group.set_container(real)
    real.set_iommu(VFIO_TYPE1v2_IOMMU)
    with refused(EPERM):
        loose_nic_group.set_container(real)
    assert loose_nic_group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    assert type1_outcomes(real) == {0}
    loose_nic_group.set_container(fake)
    fake.set_iommu(VFIO_NOIOMMU_IOMMU)
    assert loose_nic_group.get_device_fd(str(nic))


@claim("D23")
@mixed
def test_a_container_of_a_noiommu_group_refuses_a_real_group(
    pf, loose_group, loose_nic_group, empty_container
):
    """The container of a no-IOMMU group refuses a real group until the former has left."""
    loose_nic_group.set_container(empty_container)
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    with refused(EPERM):
        loose_group.set_container(empty_container)
    assert loose_group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    loose_nic_group.unset_container()
    loose_group.set_container(empty_container)
    empty_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert loose_group.get_device_fd(str(pf))


@claim("D24")
@alone
def test_several_noiommu_groups_share_a_container(
    pf, nic, loose_group, loose_nic_group, empty_container
):
    """Several no-IOMMU groups can share a container and leave it one by one."""
    loose_group.set_container(empty_container)
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    loose_nic_group.set_container(empty_container)
    held, other = loose_group.get_device_fd(str(pf)), loose_nic_group.get_device_fd(str(nic))
    with refused(EBUSY):
        loose_group.unset_container()
    held.close()
    loose_group.unset_container()
    assert other.get_info().num_regions > 0
    assert loose_nic_group.get_device_fd(str(nic))


@claim("D25")
@alone
def test_a_noiommu_group_is_always_viable(guest, nic, loose_nic_group, empty_container):
    """A no-IOMMU group stays viable while a host driver binds to a neighbouring device."""
    guest.load("e1000e")
    neighbour = guest.function("nic1")
    assert neighbour.driver == "e1000e"
    assert loose_nic_group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    loose_nic_group.set_container(empty_container)
    in_use = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET
    assert loose_nic_group.get_status().flags == in_use
    neighbour.bind("e1000e")
    empty_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    held = loose_nic_group.get_device_fd(str(nic))
    neighbour.bind("e1000e")
    assert held.get_info().num_regions > 0
