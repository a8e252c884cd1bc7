"""What remains of a bind for which the kernel had no memory?

Kernel: drivers/vfio/vfio_main.c, __vfio_register_dev(); drivers/vfio/group.c,
vfio_device_set_group(), vfio_create_group() and vfio_noiommu_group_alloc();
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_register_device().
"""

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.memory import take

NODES = "/dev/vfio"
GROUPS = "/sys/kernel/iommu_groups"


@claim("H06", "H13")
@pytest.mark.complains("WARN")
@pytest.mark.topology("igb-pair")
def test_a_failed_bind_leaves_the_device_free(fail_each_allocation, root, user, plain_vf):
    """A bind that fails for lack of memory leaves no driver and no node, and succeeds later."""
    plain_vf.unbind()
    nodes = root.listdir(NODES)
    fail_each_allocation(root, lambda: take(plain_vf), lambda _: plain_vf.unbind())
    assert (root.listdir(NODES), plain_vf.driver) == (nodes, None)
    take(plain_vf)
    assert user.open(plain_vf)


@claim("H06", "H13")
@pytest.mark.complains("WARN")
@pytest.mark.usefixtures("unsafe")
@pytest.mark.topology("noiommu")
def test_a_failed_noiommu_bind_leaves_no_group(fail_each_allocation, root, pf_user, nic):
    """A no-IOMMU bind that fails for lack of memory leaves no group, and succeeds later."""
    nic.unbind()
    nodes = root.listdir(NODES)
    fail_each_allocation(root, lambda: take(nic), lambda _: nic.unbind())
    assert (root.listdir(NODES), nic.driver, nic.grouped) == (nodes, None, False)
    assert root.listdir(GROUPS)
    nic.bind("vfio-pci")
    assert pf_user.open(nic)
