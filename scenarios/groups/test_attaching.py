"""When does a group attach to a container, and when does it leave it?

Thread: mainline. Kernel: drivers/vfio/group.c, vfio_group_ioctl_set_container(),
vfio_group_ioctl_unset_container() and vfio_device_remove_group().
"""

from errno import EBADF, EBADFD, EBUSY, EFAULT, EINVAL, ENODEV, ENOTTY

import pytest

from vfio_lab.client.memory import NOWHERE
from vfio_lab.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_SET_IOMMU,
)
from vfio_lab.vfio import Container
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import HOST_DRIVER, give
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("multifunction")
VIABLE = VFIO_GROUP_FLAGS_VIABLE
ATTACHED = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET
NO_FD = 999  # a descriptor no user has


@claim("E17")
def test_an_attached_group_is_not_attached_again(user, owned, new_container):
    """Neither to its own container nor to another, until it has left its own."""
    other = Container(user)
    with refused(EINVAL):
        owned.set_container(new_container)
    with refused(EINVAL):
        owned.set_container(other)
    assert owned.get_status().flags == ATTACHED
    owned.unset_container()
    owned.set_container(other)


@claim("E17")
def test_a_group_is_attached_to_containers_only(user, group, new_container, has):
    """What is closed and what is something else each have their errno, and attach nothing."""
    something_else = EBADFD if has("iommufd-as-container") else EINVAL
    with refused(EBADF):
        group.set_container(NO_FD)
    with refused(EBADF):
        group.set_container(-1)
    with refused(something_else):
        group.set_container(user.open_path("/dev/null"))
    with refused(something_else):
        group.set_container(group)
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)


@claim("E17")
def test_a_group_knows_its_own_calls_and_reads_their_arguments(group, new_container):
    """A call that is not a group's is unknown to it, and a pointer must lead somewhere."""
    with refused(ENOTTY):
        group.ioctl(VFIO_SET_IOMMU, 1)
    with refused(EFAULT):
        group.ioctl(VFIO_GROUP_SET_CONTAINER, NOWHERE)
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)


@claim("E17")
def test_a_group_whose_devices_are_gone_attaches_to_nothing(user, nic, group, new_container):
    """Who holds the group of a device that left it holds nothing, even when it comes back."""
    nic.unbind()
    with refused(ENODEV):
        group.set_container(new_container)
    with refused(ENODEV):
        group.get_status()
    nic.bind("vfio-pci")
    with refused(ENODEV):
        group.set_container(new_container)
    assert user.open(nic)


@claim("E17")
def test_a_group_whose_devices_go_leaves_its_container(guest, ready, nic, new_container):
    """With its last device a group loses its container, which loses its type, and its owner."""
    nic.unbind()
    with refused(EINVAL):
        ready.unset_container()
    with refused(ENODEV):
        ready.get_device_fd(str(nic))
    with refused(EINVAL):
        new_container.get_info()
    give(guest, nic, HOST_DRIVER)
    assert nic.driver == HOST_DRIVER


@claim("E18")
def test_a_group_attached_to_nothing_is_not_detached(group, new_container):
    """Neither before it was attached nor once it has left."""
    with refused(EINVAL):
        group.unset_container()
    group.set_container(new_container)
    group.unset_container()
    assert group.get_status().flags == VIABLE
    with refused(EINVAL):
        group.unset_container()


@claim("E18")
def test_a_group_is_not_detached_under_its_open_devices(nic, neighbour, ready):
    """Each of them keeps the group where it is."""
    neighbour.bind("vfio-pci")
    first, second = ready.get_device_fd(str(nic)), ready.get_device_fd(str(neighbour))
    with refused(EBUSY):
        ready.unset_container()
    first.close()
    with refused(EBUSY):
        ready.unset_container()
    assert second.get_info().num_regions > 0
    second.close()
    ready.unset_container()
    assert ready.get_status().flags == VIABLE
