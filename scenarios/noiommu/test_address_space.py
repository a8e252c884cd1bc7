"""Which address space does a device without an IOMMU have on the cdev path?

Thread: 2019-noiommu said "I'm not willing to maintain any more lines of code to support this usage
model". The code was merged seven years later. Kernel: drivers/iommu/iommufd/hwpt_noiommu.c,
drivers/iommu/iommufd/ioas.c, iommufd_ioas_noiommu_get_pa().
"""

from errno import EBUSY, EINVAL, ENOENT, EOPNOTSUPP, EOVERFLOW, EPERM

import pytest

from vfio_lab.client.memory import PAGE_BYTES, physical_address, pinned_bytes
from vfio_lab.uapi.iommufd import IOMMU_HW_INFO_TYPE_INTEL_VTD
from vfio_lab.uapi.syscalls import CAP_SYS_RAWIO
from vfio_lab.vfio import Cdev, Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = [pytest.mark.topology("mixed"), pytest.mark.usefixtures("unsafe")]

IOVA = 0x10_0000
END_OF_SPACE = (1 << 64) - 1


@pytest.fixture
def iommufd(pf_user):
    """An iommufd of the PF's user."""
    return Iommufd(pf_user)


@pytest.fixture
def bound_nic(nic, pf_user, iommufd):
    """The NIC, which has no IOMMU, bound to the iommufd by its character device."""
    cdev = Cdev(pf_user, nic.cdev, str(nic))
    cdev.bind_iommufd(iommufd)
    return cdev


@pytest.fixture
def ioas(bound_nic, iommufd):
    """An address space that the NIC is attached to."""
    ioas = iommufd.ioas_alloc()
    bound_nic.attach_iommufd_pt(ioas)
    return ioas


@pytest.fixture
def memory(pf_user, ioas, iommufd):
    """Two pages of the user's memory, mapped in the address space at IOVA."""
    address = pf_user.allocate(2 * PAGE_BYTES)
    iommufd.ioas_map(ioas, address, 2 * PAGE_BYTES, IOVA)
    return address


@claim("D27")
def test_memory_mapped_for_noiommu_is_pinned(pf_user, ioas, iommufd):
    """Memory mapped for a no-IOMMU device is pinned until it is unmapped."""
    address = pf_user.allocate(2 * PAGE_BYTES)
    assert pinned_bytes(pf_user) == 0
    iommufd.ioas_map(ioas, address, 2 * PAGE_BYTES, IOVA)
    assert pinned_bytes(pf_user) == 2 * PAGE_BYTES
    assert iommufd.ioas_unmap(ioas, IOVA, 2 * PAGE_BYTES) == 2 * PAGE_BYTES
    assert pinned_bytes(pf_user) == 0


@claim("D27")
def test_noiommu_get_pa_returns_physical_addresses(pf_user, ioas, iommufd, memory):
    """IOMMU_IOAS_NOIOMMU_GET_PA returns physical addresses and how far they are contiguous."""
    first, second = (
        physical_address(pf_user, memory),
        physical_address(pf_user, memory + PAGE_BYTES),
    )
    assert iommufd.ioas_noiommu_get_pa(ioas, IOVA, 1) == (first, 1)
    assert iommufd.ioas_noiommu_get_pa(ioas, IOVA + 8, 16) == (first + 8, 16)
    assert iommufd.ioas_noiommu_get_pa(ioas, IOVA + PAGE_BYTES, PAGE_BYTES) == (second, PAGE_BYTES)
    contiguous = 2 * PAGE_BYTES if second == first + PAGE_BYTES else PAGE_BYTES
    assert iommufd.ioas_noiommu_get_pa(ioas, IOVA, 3 * PAGE_BYTES) == (first, contiguous)


@claim("D28")
@pytest.mark.usefixtures("unsafe", "memory")
def test_noiommu_get_pa_refuses_invalid_requests(pf_user, ioas, iommufd):
    """IOMMU_IOAS_NOIOMMU_GET_PA has an errno for each kind of invalid request."""
    ask = iommufd.ioas_noiommu_get_pa
    with pf_user.without(CAP_SYS_RAWIO), refused(EPERM):
        ask(ioas, IOVA, 1)
    assert outcome(lambda: ask(ioas, IOVA, 1, flags=1)) == EOPNOTSUPP
    assert outcome(lambda: ask(ioas, IOVA, 1, reserved=1)) == EOPNOTSUPP
    assert outcome(lambda: ask(ioas, IOVA, 0)) == EINVAL
    assert outcome(lambda: ask(ioas, IOVA + 2 * PAGE_BYTES, 1)) == ENOENT
    assert outcome(lambda: ask(ioas, END_OF_SPACE, 1)) == EOVERFLOW
    assert outcome(lambda: ask(ioas, IOVA, 1)) == 0


@claim("D28")
def test_noiommu_get_pa_fails_without_a_noiommu_device(
    pf_user, pf, iommufd, ioas, memory, bound_nic
):
    """IOMMU_IOAS_NOIOMMU_GET_PA fails for an IOAS that no no-IOMMU device is attached to."""
    real = Cdev(pf_user, pf.cdev)
    real.bind_iommufd(iommufd)
    translated = iommufd.ioas_alloc()
    real.attach_iommufd_pt(translated)
    iommufd.ioas_map(translated, memory, PAGE_BYTES, IOVA)
    with refused(EOPNOTSUPP):
        iommufd.ioas_noiommu_get_pa(translated, IOVA, 1)
    assert iommufd.ioas_noiommu_get_pa(ioas, IOVA, 1)
    bound_nic.detach_iommufd_pt()
    with refused(EOPNOTSUPP):
        iommufd.ioas_noiommu_get_pa(ioas, IOVA, 1)


@claim("D29")
def test_a_noiommu_device_has_no_hardware_information(pf_user, pf, bound_nic, iommufd):
    """IOMMU_GET_HW_INFO fails for a no-IOMMU device and works for a device with an IOMMU."""
    with refused(EOPNOTSUPP):
        iommufd.get_hw_info(bound_nic.devid)
    devid = Cdev(pf_user, pf.cdev).bind_iommufd(iommufd)
    assert iommufd.get_hw_info(devid).out_data_type == IOMMU_HW_INFO_TYPE_INTEL_VTD


@claim("D27")
def test_the_group_and_the_character_device_exclude_each_other(pf_user, nic, bound_nic):
    """The group and the character device of a no-IOMMU device exclude each other."""
    with refused(EBUSY):
        pf_user.open_group(nic)
    bound_nic.close()
    with pf_user.open(nic), refused(EBUSY):
        pf_user.open(nic, access="cdev")
    again = pf_user.open(nic, access="cdev")
    again.attach_iommufd_pt(again.iommufd.ioas_alloc())
    assert again.get_info().num_regions > 0
