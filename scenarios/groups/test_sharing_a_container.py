"""What do groups in one container have in common?

Thread: mainline. Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_attach_group() and
vfio_iommu_type1_detach_group(). The scenarios observe real DMA of two 82576.
"""

from errno import EEXIST, EINVAL

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import (
    BAR_BYTES,
    RINGS,
    SOURCE,
    TARGET,
    UNTOUCHED,
    Loopback,
)
from vfio_lab.uapi.vfio import VFIO_TYPE1v2_IOMMU
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import holders
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("igb-pair")
MESSAGE = bytes(range(64))
TYPE1 = "vfio_iommu_type1"


@pytest.fixture
def groups(user, pf, other_pf, new_container):
    """The groups of two PFs, the second one attached after the container got its type."""
    first, second = user.open_group(pf), user.open_group(other_pf)
    first.set_container(new_container)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    second.set_container(new_container)
    return first, second


@pytest.fixture
def devices(pf, other_pf, groups, new_container):
    """Both PFs, each with rings of its own, copying between the same two pages, mapped once."""
    first = Loopback(groups[0].get_device_fd(str(pf)))
    second = Loopback(groups[1].get_device_fd(str(other_pf)), rings=RINGS + PAGE_BYTES)
    second.source, second.target = first.source, first.target
    pages = (first.rings, second.rings, first.source, first.target)
    _ = [new_container.map_dma(page.address, page.iova, PAGE_BYTES) for page in pages]
    _ = [device.start() for device in (first, second)]
    return first, second


@claim("E33")
def test_groups_in_one_container_share_its_mappings(devices, new_container):
    """Devices of all groups in a container reach what is mapped, and none after the unmap."""
    first, second = devices
    assert first.copy(MESSAGE) == MESSAGE
    assert second.copy(MESSAGE) == MESSAGE
    assert new_container.unmap_dma(TARGET, PAGE_BYTES) == PAGE_BYTES
    assert first.copy(MESSAGE) == UNTOUCHED * len(MESSAGE)
    assert second.copy(MESSAGE) == UNTOUCHED * len(MESSAGE)


@claim("E33")
def test_mappings_stay_when_one_of_the_groups_leaves(user, devices, groups, new_container):
    """Mappings of a container stay when one of its groups leaves."""
    first, second = devices
    user.munmap(first.registers, BAR_BYTES)
    first.device.close()
    groups[0].unset_container()
    with refused(EEXIST):
        new_container.map_dma(second.source.address, SOURCE, PAGE_BYTES)
    assert second.copy(MESSAGE) == MESSAGE


@claim("E19", "E33")
def test_type_and_mappings_go_with_the_last_group(guest, user, groups, new_container):
    """A container loses its type and its mappings when the last group leaves."""
    address = user.allocate(PAGE_BYTES)
    new_container.map_dma(address, SOURCE, PAGE_BYTES)
    groups[1].unset_container()
    groups[0].unset_container()
    assert holders(guest, TYPE1) == 0
    with refused(EINVAL):
        new_container.get_info()
    groups[1].set_container(new_container)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    new_container.map_dma(address, SOURCE, PAGE_BYTES)
