"""What is left of a mapping for which its user may not lock enough memory?

Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_lock_acct(); drivers/iommu/iommufd/pages.c,
iopt_pages_update_pinned() and incr_user_locked_vm().
"""

from errno import ENOMEM, EPERM

import pytest

from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.uapi.iommufd import (
    IOMMU_OPTION_OP_GET,
    IOMMU_OPTION_OP_SET,
    IOMMU_OPTION_RLIMIT_MODE,
)
from vfio_lab.uapi.syscalls import CAP_SYS_RESOURCE
from vfio_lab.vfio import Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, locked_bytes
from vfio_lab_pytest.exhaustion import memfd
from vfio_lab_pytest.verdicts import refused

TWO, THREE = 2 * PAGE_BYTES, 3 * PAGE_BYTES
EVERYTHING = (1 << 64) - 1


@pytest.fixture
def user(poor):
    """A user who may lock two pages."""
    return poor


@claim("M08")
def test_a_container_maps_what_may_be_locked_again_later(user, mappings):
    """A container that could not map three pages maps two, and again after they are unmapped."""
    memory = user.allocate(THREE)
    with refused(ENOMEM):
        mappings.map_dma(memory, IOVA, THREE)
    mappings.map_dma(memory, IOVA, TWO)
    assert locked_bytes(user) == TWO
    mappings.unmap_dma(IOVA, TWO)
    mappings.map_dma(memory + PAGE_BYTES, IOVA, TWO)
    assert locked_bytes(user) == TWO


@claim("M09")
def test_an_address_space_maps_what_may_be_locked(user, attached, ioas):
    """An IOAS that could not map three pages fails with ENOMEM, pins none and maps two."""
    memory, iommufd = user.allocate(THREE), attached.iommufd
    with refused(ENOMEM):
        iommufd.ioas_map(ioas, memory, THREE, IOVA)
    assert pinned_bytes(user) == 0
    assert iommufd.ioas_map(ioas, memory, TWO, IOVA) == IOVA
    assert pinned_bytes(user) == TWO
    assert iommufd.ioas_unmap(ioas, 0, EVERYTHING) == TWO
    assert pinned_bytes(user) == 0


@claim("M10")
def test_an_address_space_without_a_device_locks_nothing(user, bound_device, ioas):
    """An IOAS without a device maps more than may be locked; then no device can be attached."""
    iommufd = bound_device.iommufd
    iommufd.ioas_map(ioas, user.allocate(THREE), THREE, IOVA)
    assert pinned_bytes(user) == 0
    with refused(ENOMEM):
        bound_device.attach_iommufd_pt(ioas)
    iommufd.ioas_unmap(ioas, IOVA, THREE)
    assert bound_device.attach_iommufd_pt(ioas) > 0


@claim("M11")
def test_a_memory_file_is_locked_like_memory(user, attached, ioas):
    """Mapping a memory file into an IOAS counts as locked memory, and fails alike."""
    fd, iommufd = memfd(user, THREE), attached.iommufd
    with refused(ENOMEM):
        iommufd.ioas_map_file(ioas, fd, 0, THREE, IOVA)
    assert iommufd.ioas_map_file(ioas, fd, 0, TWO, IOVA) == IOVA
    assert pinned_bytes(user) == TWO
    assert iommufd.ioas_unmap(ioas, IOVA, TWO) == TWO
    assert pinned_bytes(user) == 0


@claim("M12")
def test_who_is_charged_is_an_option_for_the_privileged_alone(guest, pf_user):
    """RLIMIT_MODE of an iommufd is 0; only a user with CAP_SYS_RESOURCE may change it."""
    weak = Iommufd(guest.user("weak", drop=[CAP_SYS_RESOURCE]))
    assert weak.option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_GET) == 0
    with refused(EPERM):
        weak.option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, value=1)
    strong = Iommufd(pf_user)
    strong.option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_SET, value=1)
    assert strong.option(IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_OP_GET) == 1
