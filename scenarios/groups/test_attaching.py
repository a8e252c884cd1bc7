"""When can a group be attached to a container, and when can it leave?

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
NO_FD = 999  # a descriptor that no user has open


@claim("E17")
def test_an_attached_group_is_not_attached_again(user, owned, new_container):
    """A group cannot be attached to any container again until it is detached."""
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
    """Attaching a group to a closed descriptor or to something else than a container fails."""
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
def test_a_group_refuses_container_ioctls_and_unreadable_arguments(group, new_container):
    """A group refuses an ioctl of containers and an unreadable argument."""
    with refused(ENOTTY):
        group.ioctl(VFIO_SET_IOMMU, 1)
    with refused(EFAULT):
        group.ioctl(VFIO_GROUP_SET_CONTAINER, NOWHERE)
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)


@claim("E17")
def test_a_group_whose_device_was_unbound_stays_useless(user, nic, group, new_container):
    """A group descriptor whose device was unbound stays useless after the device is bound again."""
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
def test_unbinding_the_last_device_detaches_the_group(guest, ready, nic, new_container):
    """Unbinding the last device of a group detaches the group and ends its ownership."""
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
def test_a_group_that_is_not_attached_cannot_be_detached(group, new_container):
    """A group that is not attached cannot be detached."""
    with refused(EINVAL):
        group.unset_container()
    group.set_container(new_container)
    group.unset_container()
    assert group.get_status().flags == VIABLE
    with refused(EINVAL):
        group.unset_container()


@claim("E18")
def test_a_group_with_an_open_device_cannot_be_detached(nic, neighbour, ready):
    """A group cannot be detached while one of its devices is open."""
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
