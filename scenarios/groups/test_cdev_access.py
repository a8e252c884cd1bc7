"""Who can bind the character devices of a group?

Thread: 2013-groups (one user for each group, which holds for the cdev path, too). Kernel:
drivers/iommu/iommu.c, iommu_device_claim_dma_owner(); drivers/vfio/device_cdev.c,
vfio_df_ioctl_bind_iommufd(); drivers/vfio/group.c, vfio_device_block_group();
drivers/vfio/vfio_main.c, vfio_device_fops_unl_ioctl().
"""

from errno import EBADF, EBUSY, EINVAL, EPERM
from functools import partial

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_RESET,
    VFIO_GROUP_GET_STATUS,
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX,
)
from vfio_lab.vfio import Cdev, Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import HOST_DRIVER, holders
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.topology("multifunction")
NO_FD = 999  # a descriptor that no user has open
CONFIG = 7 << 40  # offset of the config space region


@pytest.fixture
def iommufd(user):
    """The user's iommufd."""
    return Iommufd(user)


@pytest.fixture
def cdev(user, nic):
    """The character device of `nic`, open and not bound."""
    return Cdev(user, nic.cdev)


@pytest.fixture
def calls(user, cdev):
    """A call of each kind on a device, and one unknown ioctl."""
    return {
        "info": cdev.get_info,
        "irq": partial(cdev.get_irq_info, VFIO_PCI_INTX_IRQ_INDEX),
        "reset": partial(cdev.ioctl, VFIO_DEVICE_RESET),
        "feature": partial(cdev.feature, 0, VFIO_DEVICE_FEATURE_GET, b""),
        "attach": partial(cdev.attach_iommufd_pt, 1),
        "detach": cdev.detach_iommufd_pt,
        "unknown": partial(cdev.ioctl, VFIO_GROUP_GET_STATUS),
        "read": partial(user.pread, cdev.fd, 4, CONFIG),
        "write": partial(user.pwrite, cdev.fd, bytes(2), CONFIG + 4),
        "mmap": partial(user.mmap, cdev.fd, PAGE_BYTES, VFIO_PCI_BAR0_REGION_INDEX << 40),
    }


@claim("E25")
def test_a_bind_fails_while_a_host_driver_uses_the_group(hosted, cdev, iommufd):
    """A device cannot be bound while a host driver uses another device of its group."""
    with refused(EPERM):
        cdev.bind_iommufd(iommufd)
    hosted.unbind()
    assert cdev.bind_iommufd(iommufd) > 0


@claim("E25")
def test_a_bind_fails_while_another_iommufd_uses_the_group(
    user, second_user, neighbour, cdev, iommufd
):
    """A device cannot be bound while another iommufd has a device of its group."""
    neighbour.bind("vfio-pci")
    with second_user.open(neighbour, access="cdev"), refused(EPERM):
        cdev.bind_iommufd(iommufd)
    with user.open(neighbour, access="cdev"), refused(EPERM):
        cdev.bind_iommufd(iommufd)
    assert cdev.bind_iommufd(iommufd) > 0


@claim("E26")
def test_neighbours_bind_to_one_iommufd(guest, user, nic, neighbour, cdev, iommufd):
    """Devices of one group bind to one iommufd, which owns the group until the last is closed."""
    neighbour.bind("vfio-pci")
    other = Cdev(user, neighbour.cdev)
    assert 0 < cdev.bind_iommufd(iommufd) < other.bind_iommufd(iommufd)
    guest.load(HOST_DRIVER)
    cdev.close()
    with refused(EBUSY):
        nic.bind(HOST_DRIVER)
    other.close()
    nic.bind(HOST_DRIVER)
    assert nic.driver == HOST_DRIVER


@claim("E25", "E26")
def test_a_closed_device_does_not_keep_its_iommufd_open(guest, hosted, cdev, iommufd):
    """A failed bind and a closed device do not keep the iommufd open."""
    before = holders(guest, "iommufd")
    with refused(EPERM):
        cdev.bind_iommufd(iommufd)
    hosted.unbind()
    cdev.bind_iommufd(iommufd)
    cdev.close()
    iommufd.close()
    assert holders(guest, "iommufd") == before - 1
    assert holders(guest, "vfio_pci") == 0


@claim("E27")
def test_a_group_does_not_open_while_a_cdev_is_bound(user, nic, neighbour, cdev, iommufd):
    """A group does not open until the last of its bound character devices is closed."""
    neighbour.bind("vfio-pci")
    other = Cdev(user, neighbour.cdev)
    cdev.bind_iommufd(iommufd)
    other.bind_iommufd(iommufd)
    with refused(EBUSY):
        user.open_group(nic)
    cdev.close()
    with refused(EBUSY):
        user.open_group(nic)
    other.close()
    assert user.open_group(nic)


@claim("E27")
def test_a_cdev_cannot_be_bound_while_its_group_is_open(group, cdev, iommufd):
    """A character device opens while its group is open but cannot be bound."""
    with refused(EBUSY):
        cdev.bind_iommufd(iommufd)
    with refused(EINVAL):
        cdev.get_info()
    group.close()
    assert cdev.bind_iommufd(iommufd) > 0


@claim("E27")
def test_a_group_opens_beside_an_unbound_cdev(user, nic, cdev, iommufd):
    """A group opens while a character device is open and unbound, even after a failed bind."""
    with refused(EBADF):
        cdev.bind_iommufd(NO_FD)
    device = user.open(nic)
    with refused(EBUSY):
        cdev.bind_iommufd(iommufd)
    device.close()
    assert cdev.bind_iommufd(iommufd) > 0


@claim("E28")
def test_a_cdev_opens_many_times_and_binds_once(user, second_user, nic, cdev, iommufd):
    """A character device that is bound once cannot be bound by another descriptor."""
    second, third = Cdev(user, nic.cdev), Cdev(second_user, nic.cdev)
    cdev.bind_iommufd(iommufd)
    with refused(EINVAL):
        cdev.bind_iommufd(iommufd)
    with refused(EINVAL):
        second.bind_iommufd(iommufd)
    with refused(EINVAL):
        third.bind_iommufd(Iommufd(second_user))
    assert cdev.get_info().num_regions > 0
    cdev.close()
    assert second.bind_iommufd(iommufd) > 0


@claim("E29")
def test_an_unbound_cdev_refuses_every_call_but_the_bind(cdev, iommufd, calls):
    """An unbound character device refuses every call but the bind, unknown ioctls included."""
    assert {name: outcome(call) for name, call in calls.items()} == dict.fromkeys(calls, EINVAL)
    cdev.bind_iommufd(iommufd)
    assert outcome(cdev.get_info) == 0
