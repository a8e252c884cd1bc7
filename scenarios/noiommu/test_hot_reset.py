"""What does a hot reset require without an IOMMU?

Thread: 2019-noiommu. Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_fill_devs() and
vfio_pci_dev_set_hot_reset(). Two functions of one NIC share a slot, so one reset affects both,
but each has a group of its own. The mark is a register that a reset clears.
"""

from errno import EINVAL, EPERM

import pytest

from vfio_lab.drivers.intel_nic import RDBAL
from vfio_lab.uapi.vfio import (
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED,
)
from vfio_lab.vfio import Cdev
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

pytestmark = [pytest.mark.topology("noiommu"), pytest.mark.usefixtures("taints", "unsafe")]

MARK, CLEARED = bytes.fromhex("80345678"), bytes(4)


def mark(device):
    """Set a mark in the device, which a reset clears."""
    device.write_region(VFIO_PCI_BAR0_REGION_INDEX, RDBAL, MARK)


def marked(device):
    """Return whether the mark is still set."""
    found = device.read_region(VFIO_PCI_BAR0_REGION_INDEX, RDBAL, len(MARK))
    assert found in (MARK, CLEARED)
    return found == MARK


@claim("D33")
def test_a_hot_reset_of_two_noiommu_devices_requires_both_groups(pf_user, nic, other_nic):
    """A hot reset of two no-IOMMU devices requires both of their groups."""
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
def test_a_hot_reset_accepts_a_noiommu_group_without_an_open_device(pf_user, nic, other_nic):
    """A hot reset accepts a no-IOMMU group in no container, with its device not open."""
    held, other = pf_user.open(nic), pf_user.open_group(other_nic)
    mark(held)
    held.hot_reset([held.group, other])
    assert not marked(held)


@claim("D33")
def test_hot_reset_info_lists_a_group_for_each_noiommu_device(pf_user, nic, other_nic):
    """Hot-reset info lists two no-IOMMU devices with two groups."""
    info = pf_user.open(nic).hot_reset_info()
    listed = {(one.owner, one.bdf) for one in info.devices}
    assert listed == {(nic.group, str(nic)), (other_nic.group, str(other_nic))}
    assert (info.count, info.flags) == (2, 0)


@claim("D33")
def test_a_noiommu_neighbour_outside_vfio_prevents_the_hot_reset(guest, pf_user, nic):
    """A device on no vfio driver has no group: info fails with EPERM, the reset with EINVAL."""
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
def test_a_hot_reset_requires_both_noiommu_cdevs_on_one_iommufd(pf_user, nic, other_nic):
    """On the cdev path, a hot reset requires both no-IOMMU devices on one iommufd."""
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
