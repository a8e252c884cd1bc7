"""What remains of an open for which the kernel had no memory?

Kernel: drivers/vfio/group.c, vfio_group_fops_open(), vfio_df_group_open() and
vfio_device_open_file(); drivers/vfio/container.c, vfio_ioctl_set_iommu();
drivers/vfio/device_cdev.c, vfio_device_fops_cdev_open() and vfio_df_ioctl_bind_iommufd();
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_enable().
"""

from errno import EIO
from functools import partial

import pytest

from vfio_lab.uapi.vfio import VFIO_TYPE1v2_IOMMU
from vfio_lab.vfio import (
    Cdev,
    Container,
    Group,
    GroupDevice,
    Iommufd,
    with_options,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import holders
from vfio_lab_pytest.memory import reopen
from vfio_lab_pytest.sriov import open_ready_group
from vfio_lab_pytest.tokens import TOKEN

NO_DOMAIN = frozenset({EIO})  # vfio_iommu_type1_attach_group() of 6.1 for every error


@claim("H01")
@pytest.mark.topology("igb-pair")
def test_a_failed_open_leaves_the_group_free(fail_each_allocation, user, second_user, nic):
    """A group whose open failed for lack of memory can be opened by another user."""
    number = nic.group
    fail_each_allocation(user, lambda: Group(user, number), Group.close)
    assert second_user.open(nic)


@claim("H01")
def test_a_failed_open_of_a_container_holds_no_module(fail_each_allocation, guest, user):
    """A container whose open failed for lack of memory does not keep the vfio module in use."""
    before = holders(guest, "vfio")
    fail_each_allocation(user, lambda: Container(user), Container.close)
    assert holders(guest, "vfio") == before


@claim("H02")
@pytest.mark.topology("igb-pair")
def test_a_container_type_can_be_set_after_a_failure(
    fail_each_allocation, nic, owned, new_container
):
    """A container's type that was not set for lack of memory can be set later."""

    def start_over(_):
        owned.get_device_fd(str(nic)).close()
        owned.unset_container()
        owned.set_container(new_container)

    ask = partial(new_container.set_iommu, VFIO_TYPE1v2_IOMMU)
    fail_each_allocation(owned.user, ask, start_over, or_else=NO_DOMAIN)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert owned.get_device_fd(str(nic))


@claim("H03")
@pytest.mark.topology("igb-pair")
def test_a_failed_open_leaves_the_device_disabled(fail_each_allocation, user, plain_vf):
    """A device whose open failed for lack of memory is disabled and can be unbound at once."""
    group = open_ready_group(user, plain_vf)
    name = str(plain_vf)
    fail_each_allocation(user, lambda: group.get_device_fd(name), GroupDevice.close)
    assert plain_vf.read("enable") == "0"
    group.get_device_fd(name).close()
    plain_vf.unbind()
    assert plain_vf.driver is None


@claim("H04")
def test_a_failed_open_does_not_count_the_vf_as_in_use(
    fail_each_allocation, pf_user, pf, vf, vf_group
):
    """A VF whose open failed for lack of memory does not count as in use."""
    pf_user.open(pf, TOKEN).close()
    name = with_options(str(vf), TOKEN)
    fail_each_allocation(vf_group.user, lambda: vf_group.get_device_fd(name), GroupDevice.close)
    assert pf_user.open(pf)


@claim("H05")
def test_a_cdev_can_be_opened_after_a_failure(fail_each_allocation, user, function):
    """A cdev whose open failed for lack of memory can be opened and unbound later."""
    node = function.cdev
    fail_each_allocation(user, lambda: Cdev(user, node), Cdev.close)
    user.open(function, access="cdev").close()
    function.unbind()
    assert function.driver is None


@claim("H05")
@pytest.mark.topology("igb-pair")
def test_a_cdev_can_be_bound_after_a_failure(fail_each_allocation, user, plain_vf):
    """A cdev whose bind failed for lack of memory can be bound by the same descriptor."""
    cdevs, iommufd = [Cdev(user, plain_vf.cdev)], Iommufd(user)
    fail_each_allocation(user, lambda: cdevs[-1].bind_iommufd(iommufd), lambda _: reopen(cdevs))
    cdevs[-1].bind_iommufd(iommufd)
    assert cdevs[-1].get_info().num_regions
    cdevs[-1].close()
    assert user.open(plain_vf)


@claim("H05")
def test_a_cdev_can_be_attached_after_a_failure(fail_each_allocation, bound_device, ioas):
    """A cdev whose attach failed for lack of memory can be attached by the same descriptor."""
    fail_each_allocation(
        bound_device.user,
        lambda: bound_device.attach_iommufd_pt(ioas),
        lambda _: bound_device.detach_iommufd_pt(),
    )
    assert bound_device.attach_iommufd_pt(ioas)
