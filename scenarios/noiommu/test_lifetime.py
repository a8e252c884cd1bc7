"""Can a container, a no-IOMMU group and its device be closed in any order?

Kernel: drivers/vfio/container.c, "Must support container/group/device being closed in any order";
drivers/vfio/group.c, vfio_device_remove_group(). The group is created for the device and freed
with it, so a wrong reference count is a leak or a warning.
"""

from errno import ENODEV

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import outcome

pytestmark = [pytest.mark.topology("noiommu"), pytest.mark.usefixtures("unsafe")]
IGB_ID = bytes.fromhex("8680c910")


@claim("D38")
def test_a_noiommu_device_survives_its_container_and_group(
    pf_user, pf, ready_group, empty_container
):
    """A no-IOMMU device works after its container and its group are closed."""
    held = ready_group.get_device_fd(str(pf))
    empty_container.close()
    ready_group.close()
    assert held.read_config(0, 4) == IGB_ID
    held.close()
    assert pf_user.open(pf).read_config(0, 4) == IGB_ID


@claim("D38")
def test_a_killed_noiommu_user_releases_everything(pf_user, vf_user, pf, ready_group):
    """kill -9 of a no-IOMMU user releases group, container and device."""
    ready_group.get_device_fd(str(pf))
    pf_user.kill()
    vf_user.open(pf).close()
    pf.unbind()
    assert not pf.grouped


@claim("D09", "D38")
def test_a_noiommu_group_without_its_device_answers_enodev(
    root, pf, ready_group, empty_container, loose_nic_group
):
    """A no-IOMMU group whose device was unbound answers ENODEV to every call."""
    node = f"/dev/vfio/noiommu-{pf.group}"
    pf.unbind()
    assert not root.exists(node)
    assert outcome(ready_group.get_status) == ENODEV
    assert outcome(lambda: ready_group.get_device_fd(str(pf))) == ENODEV
    assert outcome(lambda: ready_group.set_container(empty_container)) == ENODEV
    assert [one for one in (1, 3, 8) if empty_container.check_extension(one)] == [1, 3, 8]
    ready_group.close()
    loose_nic_group.set_container(empty_container)
    assert not pf.grouped
