"""What does a container do without groups, without a type or without an IOMMU driver?

Thread: mainline. Kernel: drivers/vfio/container.c, vfio_ioctl_set_iommu(),
vfio_container_ioctl_check_extension() and vfio_group_detach_container().
"""

from errno import EINVAL, ENODEV, ENOTTY

import pytest

from vfio_lab.uapi.vfio import (
    VFIO_GROUP_GET_STATUS,
    VFIO_NOIOMMU_IOMMU,
    VFIO_TYPE1_IOMMU,
    VFIO_UNMAP_ALL,
    VFIO_TYPE1v2_IOMMU,
)
from vfio_lab.vfio import Container
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import holders, unload
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("igb-pair")
TYPE1 = "vfio_iommu_type1"
NOIOMMU_SWITCH = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
NO_TYPE = 999
EVERY_CAPABILITY = range(41)


@claim("E19")
def test_a_type_is_set_with_a_group_attached(group, new_container):
    """A container's type can be set only while a group is attached."""
    with refused(EINVAL):
        new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    group.set_container(new_container)
    with refused(EINVAL):
        new_container.get_info()
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert new_container.get_info().iova_pgsizes & 4096


@claim("E19")
@pytest.mark.usefixtures("ready")
def test_a_type_is_set_once(new_container):
    """A container's type cannot be set a second time."""
    with refused(EINVAL):
        new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    with refused(EINVAL):
        new_container.set_iommu(VFIO_TYPE1_IOMMU)
    assert new_container.get_info().iova_pgsizes & 4096


@claim("E19")
def test_a_container_loses_its_type_with_its_last_group(guest, ready, new_container, nic):
    """A container loses its type and its IOMMU driver with its last group."""
    assert holders(guest, TYPE1) == 1
    ready.unset_container()
    assert holders(guest, TYPE1) == 0
    with refused(EINVAL):
        new_container.get_info()
    ready.set_container(new_container)
    with refused(EINVAL):
        ready.get_device_fd(str(nic))
    new_container.set_iommu(VFIO_TYPE1_IOMMU)
    assert ready.get_device_fd(str(nic))


@claim("E19")
def test_a_closed_container_stays_alive_in_its_group(guest, ready, new_container, nic):
    """A container stays alive in its group after its own descriptor is closed."""
    new_container.close()
    assert ready.get_device_fd(str(nic)).get_info().num_regions > 0
    assert holders(guest, TYPE1) == 1
    ready.user.kill()
    assert holders(guest, TYPE1) == 0


@claim("E19")
def test_a_container_refuses_unknown_types(guest, owned, new_container):
    """A container refuses unknown types, unsuitable types and extensions that are not types."""
    assert owned.container is new_container
    with refused(ENODEV):
        new_container.set_iommu(NO_TYPE)
    with refused(ENODEV):
        new_container.set_iommu(VFIO_NOIOMMU_IOMMU)
    with refused(EINVAL):
        new_container.set_iommu(VFIO_UNMAP_ALL)
    assert holders(guest, TYPE1) == 0
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert holders(guest, TYPE1) == 1


@claim("E19")
def test_any_user_can_open_a_container_but_needs_a_group(guest):
    """Any user can open and query a container but needs a group for everything else."""
    unprivileged_user = guest.user("unprivileged_user", uid=1000, drop=EVERY_CAPABILITY)
    container = Container(unprivileged_user)
    assert container.get_api_version() == 0
    assert container.check_extension(VFIO_TYPE1v2_IOMMU) == 1
    with refused(EINVAL):
        container.set_iommu(VFIO_TYPE1v2_IOMMU)
    with refused(EINVAL):
        container.map_dma(0, 0, 4096)


@claim("E21")
def test_without_the_type1_module_a_container_offers_no_type(guest, owned, new_container, nic):
    """A container offers no type until the type1 module is loaded."""
    unload(guest, TYPE1)
    assert new_container.check_extension(VFIO_TYPE1v2_IOMMU) == 0
    with refused(ENODEV):
        new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    guest.load(TYPE1)
    assert new_container.check_extension(VFIO_TYPE1v2_IOMMU) == 1
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert owned.get_device_fd(str(nic))


@claim("E21")
def test_a_container_offers_the_extensions_of_its_module(guest, ready, new_container, user):
    """A container with and without a type offers the extensions of the type1 module."""
    other = Container(user)
    extensions = (VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_NOIOMMU_IOMMU, NO_TYPE)
    assert [new_container.check_extension(each) for each in extensions] == [1, 1, 0, 0]
    assert [other.check_extension(each) for each in extensions] == [1, 1, 0, 0]
    with refused(ENOTTY):
        new_container.ioctl(VFIO_GROUP_GET_STATUS)
    with refused(EINVAL):
        other.ioctl(VFIO_GROUP_GET_STATUS)
    ready.unset_container()
    assert holders(guest, TYPE1) == 0


@claim("E21")
@pytest.mark.needs("VFIO_NOIOMMU")
@pytest.mark.usefixtures("owned")
def test_a_container_with_an_iommu_group_offers_no_noiommu_type(guest, user, new_container):
    """A container with a group that has an IOMMU does not offer the no-IOMMU type."""
    guest.root.write_file(NOIOMMU_SWITCH, "Y")
    assert Container(user).check_extension(VFIO_NOIOMMU_IOMMU) == 1
    assert new_container.check_extension(VFIO_NOIOMMU_IOMMU) == 0
    assert new_container.check_extension(VFIO_TYPE1v2_IOMMU) == 1
