"""What does a hot reset take without an IOMMU?

Thread: 2019-noiommu. Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_fill_devs() and
vfio_pci_dev_set_hot_reset(). Two functions of one NIC share a slot, so one reset hits both; each
has a group of its own here. The witness is a register that a reset clears.
"""

from errno import EINVAL, EPERM

import pytest

from vfio_lab.uapi.vfio import (
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED,
)
from vfio_lab.vfio import Cdev
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

pytestmark = [pytest.mark.topology("noiommu"), pytest.mark.usefixtures("taints", "unsafe")]

RX_RING_BASE = 0x2800  # RDBAL of the 82574, its low 4 bits are 0
MARK, CLEARED = bytes.fromhex("80345678"), bytes(4)


def mark(device):
    """Put a mark into the device that a reset takes away."""
    device.write_region(VFIO_PCI_BAR0_REGION_INDEX, RX_RING_BASE, MARK)


def marked(device):
    """Return whether the mark is still there."""
    found = device.read_region(VFIO_PCI_BAR0_REGION_INDEX, RX_RING_BASE, len(MARK))
    assert found in (MARK, CLEARED)
    return found == MARK


@claim("D33")
def test_it_takes_a_group_for_each_device(pf_user, nic, other_nic):
    """One group of the two is refused and resets nothing; both, and only both, reset both."""
    held, other = pf_user.open(nic), pf_user.open(other_nic)
    mark(held)
    mark(other)
    for_both = [held.group, other.group]
    with refused(EINVAL):
        held.hot_reset([held.group])
    with refused(EINVAL):
        held.hot_reset([other.group])
    assert (marked(held), marked(other)) == (True, True)
    held.hot_reset(for_both)
    assert (marked(held), marked(other)) == (False, False)


@claim("D33")
def test_it_takes_groups_whose_devices_are_not_open(pf_user, nic, other_nic):
    """To hold the neighbour's group is enough; that it is in another container is no matter."""
    held, other = pf_user.open(nic), pf_user.open_group(other_nic)
    mark(held)
    held.hot_reset([held.group, other])
    assert not marked(held)


@claim("D33")
def test_info_lists_a_group_for_each_device(pf_user, nic, other_nic):
    """Two devices, two groups: what INFO lists is what EXECUTE takes."""
    info = pf_user.open(nic).hot_reset_info()
    listed = {(one.owner, one.bdf) for one in info.devices}
    assert listed == {(nic.group, str(nic)), (other_nic.group, str(other_nic))}
    assert (info.count, info.flags) == (2, 0)


@claim("D33")
def test_a_neighbour_on_no_vfio_driver_forbids_it(guest, pf_user, nic):
    """A device in no group cannot even be listed: EPERM; and EXECUTE has nobody to ask: EINVAL."""
    held, neighbour = pf_user.open(nic), guest.function("nic1")
    mark(held)
    with refused(EPERM):
        held.hot_reset_info()
    with refused(EINVAL):
        held.hot_reset([held.group])
    assert marked(held)
    neighbour.bind("vfio-pci")
    assert held.hot_reset_info().groups == {nic.group, neighbour.group}
    held.hot_reset([held.group, pf_user.open_group(neighbour)])
    assert not marked(held)


@claim("D40")
def test_by_character_device_it_takes_both_in_one_iommufd(pf_user, nic, other_nic):
    """A neighbour that is bound to nothing is not owned; bound to the same iommufd it is."""
    held, other = pf_user.open(nic, access="cdev"), Cdev(pf_user, other_nic.cdev)
    mark(held)
    assert held.hot_reset_info().flags == VFIO_PCI_HOT_RESET_FLAG_DEV_ID
    with refused(EINVAL):
        held.hot_reset()
    assert marked(held)
    devid = other.bind_iommufd(held.iommufd)
    info = held.hot_reset_info()
    assert info.flags == VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED
    assert {one.devid for one in info.devices} == {held.devid, devid}
    held.hot_reset()
    assert not marked(held)
