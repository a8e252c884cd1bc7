"""What is a device without an IOMMU called?

Thread: 2019-noiommu and mainline. Kernel: drivers/vfio/group.c, vfio_noiommu_group_alloc() and
vfio_create_group(); drivers/vfio/vfio_main.c, vfio_device_set_noiommu_and_name().
"""

import pytest

from vfio_lab.vfio import group_node
from vfio_lab_pytest.claims import claim

pytestmark = pytest.mark.usefixtures("unsafe")

GROUPS = "/sys/kernel/iommu_groups"


@claim("D09")
@pytest.mark.topology("noiommu")
def test_two_functions_of_one_slot_have_a_group_each(root, nic, other_nic):
    """A no-IOMMU group holds one device, is called vfio-noiommu, and has a node noiommu-N."""
    assert nic.group != other_nic.group
    assert root.read_file(f"{GROUPS}/{nic.group}/name") == "vfio-noiommu"
    assert root.listdir(f"{GROUPS}/{nic.group}/devices") == [str(nic)]
    assert root.listdir(f"{GROUPS}/{other_nic.group}/devices") == [str(other_nic)]
    groups = {f"noiommu-{nic.group}", f"noiommu-{other_nic.group}"}
    assert set(root.listdir("/dev/vfio")) - {"devices"} == {"vfio", *groups}


@claim("D09")
@pytest.mark.topology("noiommu")
def test_unbinding_a_noiommu_device_removes_its_group(guest, root, nic):
    """Unbinding a no-IOMMU device removes its group and node, and binding it creates new ones."""
    number = nic.group
    nic.unbind()
    assert not nic.grouped
    assert root.listdir(GROUPS) == []
    assert set(root.listdir("/dev/vfio")) - {"devices"} == {"vfio"}
    assert guest.dmesg(f"{nic}: Removing from iommu group {number}")
    nic.bind("vfio-pci")
    assert group_node(root, str(nic)) == f"noiommu-{nic.group}"


@claim("D09")
@pytest.mark.topology("mixed")
def test_only_groups_without_an_iommu_have_noiommu_names(root, pf, nic):
    """Groups of devices with an IOMMU keep their plain names beside no-IOMMU groups."""
    assert group_node(root, str(pf)) == str(pf.group)
    assert group_node(root, str(nic)) == f"noiommu-{nic.group}"
    assert not root.exists(f"{GROUPS}/{pf.group}/name")
    assert root.read_file(f"{GROUPS}/{nic.group}/name") == "vfio-noiommu"


@claim("D10")
@pytest.mark.topology("mixed")
def test_a_noiommu_cdev_is_called_noiommu(root, nic, pf):
    """The character device of a no-IOMMU device is called noiommu-vfioN."""
    nodes = root.listdir("/dev/vfio/devices")
    assert nodes == ["noiommu-vfio0", "vfio1"]
    assert (nic.cdev, pf.cdev) == tuple(f"/dev/vfio/devices/{node}" for node in nodes)


@claim("D11")
@pytest.mark.topology("mixed")
def test_a_noiommu_device_has_no_cdev(root, nic, pf):
    """vfio creates no character device for a no-IOMMU device."""
    assert root.listdir(f"{nic.path}/vfio-dev") == ["vfio0"]
    assert not root.exists(f"{nic.path}/vfio-dev/vfio0/dev")
    assert root.exists(f"{pf.path}/vfio-dev/vfio1/dev")
    assert root.listdir("/dev/vfio/devices") == ["vfio1"]
