"""Who gets a device without interrupt remapping?

Thread: mainline. Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_attach_group();
drivers/iommu/iommufd/device.c, iommufd_bind_iommu().
"""

from errno import EPERM

import pytest

from vfio_lab.uapi.vfio import VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU
from vfio_lab.vfio import Cdev, Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import allow_unsafe_interrupts, holders
from vfio_lab_pytest.verdicts import refused

pytestmark = [
    pytest.mark.topology("virtio-iommu"),
    pytest.mark.needs(arch="x86_64", because="an ITS tells devices apart whatever the IOMMU does"),
]
TYPE1_SAYS = 'No interrupt remapping support.  Use the module param "allow_unsafe_interrupts"'
IOMMUFD_SAYS = "MSI interrupts are not secure, they cannot be isolated by the platform"


@claim("E32")
def test_type1_requires_interrupt_remapping(guest, user, pf, new_container):
    """type1 refuses a device without interrupt remapping unless allow_unsafe_interrupts is set."""
    allow_unsafe_interrupts(guest, "vfio_iommu_type1", allowed=False)
    group = user.open_group(pf)
    group.set_container(new_container)
    with refused(EPERM):
        new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert len(guest.dmesg(TYPE1_SAYS, level="warn")) == 1
    assert holders(guest, "vfio_iommu_type1") == 0
    allow_unsafe_interrupts(guest, "vfio_iommu_type1", allowed=True)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    assert group.get_device_fd(str(pf)).get_info().num_regions > 0


@claim("E32")
def test_a_group_refused_by_a_container_is_not_owned(guest, user, pf, vf, new_container):
    """A group that a container with a type refused is neither attached nor owned."""
    first, second = user.open_group(pf), user.open_group(vf)
    first.set_container(new_container)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    allow_unsafe_interrupts(guest, "vfio_iommu_type1", allowed=False)
    with refused(EPERM):
        second.set_container(new_container)
    assert second.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    allow_unsafe_interrupts(guest, "vfio_iommu_type1", allowed=True)
    second.set_container(new_container)


@claim("E25", "E32")
def test_iommufd_requires_interrupt_remapping(guest, user, pf):
    """iommufd refuses a device without interrupt remapping unless it is allowed, then warns."""
    cdev, iommufd = Cdev(user, pf.cdev), Iommufd(user)
    allow_unsafe_interrupts(guest, "iommufd", allowed=False)
    with refused(EPERM):
        cdev.bind_iommufd(iommufd)
    assert guest.dmesg(IOMMUFD_SAYS) == []
    allow_unsafe_interrupts(guest, "iommufd", allowed=True)
    assert cdev.bind_iommufd(iommufd) > 0
    assert len(guest.dmesg(f"vfio-pci {pf}: {IOMMUFD_SAYS}", level="warn")) == 1
