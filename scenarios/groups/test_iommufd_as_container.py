"""What is different when the container is an iommufd?

Thread: mainline. Kernel: drivers/vfio/group.c, vfio_group_ioctl_get_status() and
vfio_group_ioctl_unset_container(); drivers/iommu/iommu.c, iommu_device_claim_dma_owner().
"""

from errno import EBUSY, EINVAL, EPERM

import pytest

from vfio_lab.uapi.vfio import VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE
from vfio_lab.vfio import Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import HOST_DRIVER, give, holders
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("multifunction")
ATTACHED = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET


@pytest.fixture
def iommufd(user):
    """The user's iommufd."""
    return Iommufd(user)


@claim("E24")
def test_a_viable_group_on_an_iommufd_may_refuse_its_device(hosted, group, iommufd, nic):
    """A group attached to an iommufd is reported as viable even if its device does not open."""
    assert group.get_status().flags == 0
    group.set_container(iommufd)
    assert group.get_status().flags == ATTACHED
    with refused(EPERM):
        group.get_device_fd(str(nic))
    hosted.unbind()
    assert group.get_device_fd(str(nic)).get_info().num_regions > 0


@claim("E24")
def test_a_group_is_owned_while_its_device_is_open(guest, neighbour, group, iommufd, nic):
    """A group attached to an iommufd is owned only while one of its devices is open."""
    group.set_container(iommufd)
    give(guest, neighbour, HOST_DRIVER)
    neighbour.unbind()
    device = group.get_device_fd(str(nic))
    with refused(EBUSY):
        neighbour.bind(HOST_DRIVER)
    device.close()
    neighbour.bind(HOST_DRIVER)
    assert neighbour.driver == HOST_DRIVER
    assert group.get_status().flags == ATTACHED


@claim("E01", "E24")
def test_a_detached_group_with_an_open_device_is_not_viable(group, iommufd, nic):
    """A group can leave an iommufd while its device is open, and is then not viable."""
    group.set_container(iommufd)
    device = group.get_device_fd(str(nic))
    group.unset_container()
    assert group.get_status().flags == 0
    assert device.get_info().num_regions > 0
    device.close()
    assert group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE


@claim("E17", "E18", "E24")
def test_a_group_attaches_to_and_leaves_an_iommufd_as_container(
    guest, group, iommufd, new_container
):
    """A group attaches to an iommufd once, and leaves by a detach or a close."""
    before = holders(guest, "iommufd")
    group.set_container(iommufd)
    with refused(EINVAL):
        group.set_container(new_container)
    group.unset_container()
    with refused(EINVAL):
        group.unset_container()
    group.set_container(iommufd)
    group.close()
    iommufd.close()
    assert holders(guest, "iommufd") == before - 1
