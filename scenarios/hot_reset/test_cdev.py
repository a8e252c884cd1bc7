"""What does a user of the cdev path own, and what can they reset?

Thread: 2023-hot-reset-info. What was merged is an empty array for "all that my iommufd owns" and a
flag that says beforehand whether a reset works. What was rejected: groups and devices in the array,
exceptions for missing devices, a device's group number, and an ioctl for devids.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_fill_devs() and vfio_pci_dev_set_hot_reset();
drivers/vfio/iommufd.c, vfio_iommufd_get_dev_id().
"""

from errno import EBUSY, EINVAL, ENOSPC

import pytest

from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_FLAGS_PCI,
    VFIO_DEVICE_FLAGS_RESET,
    VFIO_PCI_DEVID_NOT_OWNED,
    VFIO_PCI_DEVID_OWNED,
)
from vfio_lab.vfio import Cdev, Iommufd
from vfio_lab.vfio.hot_reset import hot_reset_info_bytes, left_in_buffer
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import give
from vfio_lab_pytest.hot_reset import (
    CANARY,
    NOT_OWNED,
    OWNED,
    WIPED,
    canaries,
    known_ioctls,
    with_canary,
)
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.topology("multifunction")

# GET_INFO to PCI_HOT_RESET, IOEVENTFD to DETACH_IOMMUFD_PT; the two between are for GPUs.
DOCUMENTED = {*range(7, 14), *range(16, 21)}


@pytest.fixture
def bound_sibling(user, sibling, bound):
    """The other function, bound to the same iommufd, with the mark in it."""
    cdev = Cdev(user, sibling.cdev)
    cdev.bind_iommufd(bound.iommufd)
    return with_canary(cdev)


@claim("C24", "C42")
def test_two_devices_on_one_iommufd_are_owned_and_reset_together(
    nic, sibling, bound, bound_sibling
):
    """Two devices bound to one iommufd are owned and reset together, from either of them."""
    info, seen_by_sibling = bound.hot_reset_info(), bound_sibling.hot_reset_info()
    assert bound.devid != bound_sibling.devid
    assert info.devids == {str(nic): bound.devid, str(sibling): bound_sibling.devid}
    assert (info.flags, info.count) == (OWNED, 2)
    assert seen_by_sibling == info
    bound.hot_reset()
    assert canaries(bound, bound_sibling) == [WIPED, WIPED]
    with_canary(bound)
    with_canary(bound_sibling).hot_reset()
    assert canaries(bound, bound_sibling) == [WIPED, WIPED]


@claim("C11", "C24")
def test_a_short_hot_reset_info_on_a_cdev_sets_no_flags(bound):
    """On the cdev path, a short info buffer fails with ENOSPC: the count is set, flags are not."""
    argsz = hot_reset_info_bytes(2) - 1
    with refused(ENOSPC) as short:
        bound.hot_reset_info(argsz=argsz, flags=OWNED)
    seen = left_in_buffer(short.value.out[0])
    assert (seen.argsz, seen.flags, seen.count) == (argsz, 0, 2)


@claim("C25", "C42")
def test_an_unbound_device_of_an_owned_group_is_owned(user, nic, sibling, bound):
    """An unbound device of an owned group has devid 0 and is reset, even if its node is open."""
    earlier = Cdev(user, sibling.cdev)
    info = bound.hot_reset_info()
    assert info.devids == {str(nic): bound.devid, str(sibling): VFIO_PCI_DEVID_OWNED}
    assert info.flags == OWNED
    bound.hot_reset()
    assert canaries(bound) == [WIPED]
    assert earlier.bind_iommufd(bound.iommufd) > 0


@claim("C25", "C42")
def test_a_device_stays_owned_after_its_bind_is_closed(nic, sibling, bound, bound_sibling):
    """A device whose bind is closed stays owned by the user of the group's other device."""
    bound.close()
    info = bound_sibling.hot_reset_info()
    assert info.devids == {str(nic): VFIO_PCI_DEVID_OWNED, str(sibling): bound_sibling.devid}
    assert info.flags == OWNED
    bound_sibling.hot_reset()
    assert canaries(bound_sibling) == [WIPED]


@claim("C20", "C26", "C42")
@pytest.mark.parametrize("driver", [None, "pci-stub"])
def test_a_device_outside_vfio_prevents_the_hot_reset_on_a_cdev(
    guest, nic, neighbour, bound, driver
):
    """A device outside vfio has devid -1 and prevents the reset until vfio-pci binds to it."""
    if driver:
        give(guest, neighbour, driver)
    info = bound.hot_reset_info()
    assert info.devids == {str(nic): bound.devid, str(neighbour): VFIO_PCI_DEVID_NOT_OWNED}
    assert info.flags == NOT_OWNED
    with refused(EINVAL):
        bound.hot_reset()
    assert canaries(bound) == [CANARY]
    neighbour.bind("vfio-pci")
    assert bound.hot_reset_info().flags == OWNED
    bound.hot_reset()
    assert canaries(bound) == [WIPED]


@claim("C28")
@pytest.mark.usefixtures("sibling")
def test_a_hot_reset_on_a_cdev_refuses_an_array(bound, foreign_group):
    """On the cdev path, a hot reset refuses a non-empty array, flags and a short struct."""
    strangers = (foreign_group, bound, bound.iommufd, -1)
    assert {outcome(lambda one=one: bound.hot_reset([one])) for one in strangers} == {EINVAL}
    assert outcome(lambda: bound.hot_reset(flags=1)) == EINVAL
    assert outcome(lambda: bound.hot_reset(argsz=11)) == EINVAL
    assert canaries(bound) == [CANARY]
    bound.hot_reset()
    assert canaries(bound) == [WIPED]


@claim("C28")
@pytest.mark.usefixtures("sibling")
def test_a_hot_reset_on_a_group_refuses_an_empty_array(held):
    """On the group path, a hot reset refuses an empty array."""
    with refused(EINVAL):
        held.hot_reset()
    assert canaries(held) == [CANARY]
    held.hot_reset([held.group])
    assert canaries(held) == [WIPED]


@claim("C28")
@pytest.mark.usefixtures("sibling")
def test_a_hot_reset_on_a_group_with_iommufd_refuses_an_empty_array(user, nic):
    """A hot reset through a group refuses an empty array, even with an iommufd as container."""
    group = user.open_group(nic)
    group.set_container(Iommufd(user))
    device = with_canary(group.get_device_fd(str(nic)))
    with refused(EINVAL):
        device.hot_reset()
    assert canaries(device) == [CANARY]
    device.hot_reset([group])
    assert canaries(device) == [WIPED]


@claim("C29")
def test_a_group_does_not_open_while_its_device_is_bound(user, sibling, bound):
    """A group does not open while one of its devices is bound on the cdev path."""
    with refused(EBUSY):
        user.open_group(sibling)
    bound.close()
    assert user.open(sibling)


@claim("C29")
@pytest.mark.usefixtures("held")
def test_a_device_cannot_be_bound_while_its_group_is_open(user, sibling, held):
    """A device cannot be bound on the cdev path while its group is open."""
    with refused(EBUSY):
        user.open(sibling, access="cdev")
    held.close()
    assert user.open(sibling, access="cdev")


@claim("C30")
def test_no_ioctl_of_a_cdev_returns_its_group_or_address(bound):
    """No ioctl of a cdev but the documented ones exists, and GET_INFO has no capabilities."""
    assert bound.get_info().flags == VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI
    assert bound.capabilities() == ()
    assert known_ioctls(bound) == DOCUMENTED


@claim("C31")
@pytest.mark.parametrize(
    "access", ["group", pytest.param("cdev", marks=pytest.mark.needs("VFIO_DEVICE_CDEV"))]
)
def test_fdinfo_names_the_device(user, root, nic, access):
    """The fdinfo of a device descriptor names the device's sysfs directory, on both paths."""
    device = user.open(nic, access=access)
    line = f"vfio-device-syspath: /sys{root.run('readlink', '-f', nic.path).stdout.strip()[4:]}"
    assert line in user.read_file(f"/proc/self/fdinfo/{device.fd}").splitlines()
