"""Which groups does a hot reset require where each function has its own group?

Without an IOMMU, two functions of one slot are in two groups. With an IOMMU, only VFs can be.
Threads: 2023-hot-reset-info and 2019-noiommu.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_fill_devs() and vfio_pci_dev_set_hot_reset();
drivers/iommu/iommufd/device.c, iommufd_ctx_has_group().
"""

from errno import EBUSY, EINVAL, EPERM

import pytest

from vfio_lab.uapi.vfio import VFIO_PCI_DEVID_NOT_OWNED
from vfio_lab.vfio import Cdev, Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import give
from vfio_lab_pytest.hot_reset import (
    ASLEEP,
    CANARY,
    NOT_OWNED,
    OWNED,
    WIPED,
    canaries,
    listed,
    with_canary,
)
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = [
    pytest.mark.topology("noiommu"),
    pytest.mark.needs("VFIO_NOIOMMU"),
    pytest.mark.usefixtures("unsafe"),
]


@claim("C13", "C20")
@pytest.mark.parametrize("driver", [None, "e1000e"])
def test_hot_reset_info_fails_when_a_device_has_no_group(guest, nic, neighbour, held, driver):
    """A device outside vfio has no group here: info fails with EPERM, the reset with EINVAL."""
    if driver:
        give(guest, neighbour, driver)
    with refused(EPERM):
        held.hot_reset_info()
    with refused(EINVAL):
        held.hot_reset([held.group])
    assert canaries(held) == [CANARY]
    neighbour.bind("vfio-pci")
    assert held.hot_reset_info().devices == listed(nic, neighbour)


@claim("C16")
def test_a_hot_reset_requires_the_groups_of_all_devices(user, nic, sibling, held):
    """A hot reset of two functions in two groups refuses either group alone, even twice."""
    assert nic.group != sibling.group
    other = user.open_group(sibling)
    wrong = ([held.group], [other], [held.group] * 2, [other] * 2)
    assert {outcome(lambda one=one: held.hot_reset(one)) for one in wrong} == {EINVAL}
    assert canaries(held) == [CANARY]
    held.hot_reset([held.group, other])
    assert canaries(held) == [WIPED]


@claim("C19")
def test_an_open_group_proves_ownership_without_a_container(user, sibling, held):
    """A group proves ownership as long as it is open, even without a container."""
    other = user.open_group(sibling)
    held.hot_reset([other, held.group])
    assert canaries(held) == [WIPED]
    with_canary(held)
    other.close()
    with refused(EINVAL):
        held.hot_reset([held.group])
    assert canaries(held) == [CANARY]


@claim("C16")
def test_a_refused_hot_reset_suspends_what_it_woke(sibling, held):
    """A refused hot reset suspends again the functions that it woke."""
    sibling.await_value(*ASLEEP)
    with refused(EINVAL):
        held.hot_reset([held.group])
    sibling.await_value(*ASLEEP)
    assert canaries(held) == [CANARY]


@claim("C16")
def test_a_device_of_another_user_is_not_reset(user, second_user, sibling, held):
    """A function that another user has open is not reset until that user closes it."""
    taken = with_canary(second_user.open(sibling))
    with refused(EBUSY):
        user.open_group(sibling)
    with refused(EINVAL):
        held.hot_reset([held.group])
    assert canaries(held, taken) == [CANARY, CANARY]
    taken.close()
    held.hot_reset([held.group, user.open_group(sibling)])
    assert canaries(held) == [WIPED]


@claim("C32", "C42")
def test_a_cdev_without_an_iommu_is_owned_when_it_is_bound(user, nic, sibling, bound):
    """A cdev user without an IOMMU owns a sibling only when it is bound to the same iommufd."""
    cdev, unowned = Cdev(user, sibling.cdev), VFIO_PCI_DEVID_NOT_OWNED
    info = bound.hot_reset_info()
    assert (info.flags, info.devids) == (NOT_OWNED, {str(nic): bound.devid, str(sibling): unowned})
    with refused(EINVAL):
        bound.hot_reset()
    assert canaries(bound) == [CANARY]
    cdev.bind_iommufd(bound.iommufd)
    info = bound.hot_reset_info()
    assert (info.flags, info.devids[str(sibling)]) == (OWNED, cdev.devid)
    bound.hot_reset()
    assert canaries(bound) == [WIPED]


@claim("C26", "C32", "C42")
def test_a_cdev_on_another_iommufd_is_not_owned(second_user, nic, sibling, bound):
    """Two cdev users of functions in one slot do not own each other's, and neither can reset."""
    cdev = Cdev(second_user, sibling.cdev)
    cdev.bind_iommufd(Iommufd(second_user))
    mine, theirs = bound.hot_reset_info(), with_canary(cdev).hot_reset_info()
    assert mine.flags == theirs.flags == NOT_OWNED
    assert mine.devids == {str(nic): bound.devid, str(sibling): VFIO_PCI_DEVID_NOT_OWNED}
    assert theirs.devids == {str(nic): VFIO_PCI_DEVID_NOT_OWNED, str(sibling): cdev.devid}
    with refused(EINVAL):
        bound.hot_reset()
    with refused(EINVAL):
        cdev.hot_reset()
    assert canaries(bound, cdev) == [CANARY, CANARY]


@claim("C29", "C32")
def test_a_cdev_user_does_not_own_a_device_opened_by_its_group(user, sibling, bound):
    """A cdev user does not own a sibling that is open through its group."""
    device = with_canary(user.open(sibling))
    info = bound.hot_reset_info()
    assert info.flags == NOT_OWNED
    assert info.devids[str(sibling)] == VFIO_PCI_DEVID_NOT_OWNED
    with refused(EINVAL):
        bound.hot_reset()
    with refused(EINVAL):
        device.hot_reset([device.group])
    assert canaries(bound, device) == [CANARY, CANARY]
