"""What is left of a mapping of which a part is unmapped?

Report: CVE-2023-52801. An iommufd as a container of type VFIO_TYPE1_IOMMU splits a mapping; one of
the newer type does not. Kernel: drivers/iommu/iommufd/vfio_compat.c, iommufd_vfio_unmap_dma();
drivers/iommu/iommufd/io_pagetable.c, iopt_area_split().
"""

from errno import ENOENT

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import UNTOUCHED, Loopback, Page
from vfio_lab.uapi.vfio import VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU
from vfio_lab.vfio import Container, Group
from vfio_lab.vfio.iommufd import IOMMU_PATH
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA
from vfio_lab_pytest.verdicts import refused

SIZE = 4 * PAGE_BYTES
MESSAGE = bytes(range(64))
NOTHING = UNTOUCHED * len(MESSAGE)


def compat_device(user, function, kind):
    """Open a device by a group whose container is an iommufd of that type."""
    group, container = Group(user, function.group), Container(user, IOMMU_PATH)
    group.set_container(container)
    container.set_iommu(kind)
    return group.get_device_fd(str(function))


@pytest.fixture
def split_copier(user, function):
    """A loopback device whose target is the last of four pages that one mapping maps."""
    device = compat_device(user, function, VFIO_TYPE1_IOMMU)
    copier, memory = Loopback(device), user.allocate(SIZE)
    user.poke(memory, bytes(SIZE))
    pages = (copier.rings, copier.source)
    _ = [device.container.map_dma(each.address, each.iova, PAGE_BYTES) for each in pages]
    device.container.map_dma(memory, IOVA, SIZE)
    copier.target = Page(memory + 3 * PAGE_BYTES, IOVA + 3 * PAGE_BYTES)
    copier.start()
    return copier


@claim("K25")
def test_both_parts_of_a_split_mapping_work(split_copier):
    """A device reaches both ends of a mapping whose middle was unmapped, and not the middle."""
    container, last = split_copier.device.container, split_copier.target
    container.unmap_dma(IOVA + PAGE_BYTES, PAGE_BYTES)
    assert split_copier.copy(MESSAGE) == MESSAGE
    split_copier.target = Page(last.address - 3 * PAGE_BYTES, IOVA)
    assert split_copier.copy(MESSAGE) == MESSAGE
    split_copier.target = Page(last.address - 2 * PAGE_BYTES, IOVA + PAGE_BYTES)
    assert split_copier.copy(MESSAGE) == NOTHING


@claim("K26")
def test_all_parts_of_a_split_mapping_are_unmapped(user, function, split_copier):
    """The parts of a split mapping are unmapped one by one, and the device is free."""
    container = split_copier.device.container
    assert container.unmap_dma(IOVA + PAGE_BYTES, PAGE_BYTES) == PAGE_BYTES
    assert container.unmap_dma(IOVA, PAGE_BYTES) == PAGE_BYTES
    assert container.unmap_dma(IOVA + 2 * PAGE_BYTES, 2 * PAGE_BYTES) == 2 * PAGE_BYTES
    user.kill()
    function.unbind()
    assert function.driver is None


@claim("K27")
def test_a_container_of_the_newer_type_splits_nothing(user, function):
    """An iommufd as a container of type VFIO_TYPE1v2_IOMMU unmaps no part of a mapping: ENOENT."""
    container = compat_device(user, function, VFIO_TYPE1v2_IOMMU).container
    container.map_dma(user.allocate(SIZE), IOVA, SIZE)
    with refused(ENOENT):
        container.unmap_dma(IOVA + PAGE_BYTES, PAGE_BYTES)
    assert container.unmap_dma(IOVA, SIZE) == SIZE
