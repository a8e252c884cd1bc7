"""When can the type of a group's default domain be changed?

Thread: mainline. Kernel: drivers/iommu/iommu.c, iommu_group_store_type().
"""

from errno import EPERM

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import HOST_DRIVER, set_domain_type
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("multifunction")


@claim("E34")
def test_the_domain_type_stays_while_a_host_driver_uses_the_group(guest, hosted):
    """The domain type of a group cannot be changed while a host driver uses a device in it."""
    with refused(EPERM):
        set_domain_type(hosted, "identity")
    hosted.unbind()
    set_domain_type(hosted, "identity")
    hosted.bind(HOST_DRIVER)
    with refused(EPERM):
        set_domain_type(hosted, "DMA")
    assert guest.root.read_file(f"/sys/kernel/iommu_groups/{hosted.group}/type") == "identity"


@claim("E34")
def test_the_domain_type_stays_while_a_user_owns_the_group(nic, owned):
    """The domain type of a group cannot be changed while a user owns the group."""
    with refused(EPERM):
        set_domain_type(nic, "identity")
    owned.unset_container()
    set_domain_type(nic, "identity")
    set_domain_type(nic, "DMA")
