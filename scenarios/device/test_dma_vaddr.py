"""Can the user address of a mapping change while a device uses the mapping?

Kernel: drivers/vfio/vfio_iommu_type1.c, VFIO_DMA_UNMAP_FLAG_VADDR and VFIO_DMA_MAP_FLAG_VADDR,
vfio_change_dma_owner().
"""

from errno import EBUSY, EINVAL, ENOENT

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import SOURCE, TARGET
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_MAP_FLAG_VADDR as NEW_ADDRESS
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_UNMAP_FLAG_ALL as ALL
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_UNMAP_FLAG_VADDR as NO_ADDRESS
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import locked_bytes
from vfio_lab_pytest.verdicts import all_refused, refused

MESSAGE = bytes(range(64))
WHERE = {"iova": TARGET, "size": PAGE_BYTES, "flags": NEW_ADDRESS}
WRONG = {
    "of another size": {**WHERE, "size": 2 * PAGE_BYTES},
    "off a page": {**WHERE, "iova": TARGET + 1},
    "of a mapping that has one": {**WHERE, "iova": SOURCE},
}


@claim("F79")
def test_a_device_works_while_a_mapping_has_no_user_address(copier, mappings):
    """A device keeps working while the user address of a mapping is removed and set again."""
    assert mappings.unmap_dma(TARGET, PAGE_BYTES, NO_ADDRESS) == PAGE_BYTES
    assert copier.copy(MESSAGE) == MESSAGE
    mappings.map_dma(copier.target.address, **WHERE)
    assert copier.copy(MESSAGE) == MESSAGE
    assert mappings.unmap_dma(TARGET, PAGE_BYTES) == PAGE_BYTES


@claim("F79")
def test_a_user_address_is_set_only_where_there_is_none(copier, mappings):
    """A user address can be set only for an existing mapping that has none."""
    with refused(EINVAL):
        mappings.map_dma(copier.target.address, **WHERE)
    mappings.unmap_dma(TARGET, PAGE_BYTES, NO_ADDRESS)
    with refused(EINVAL):
        mappings.unmap_dma(0, 0, ALL | NO_ADDRESS)
    all_refused(EINVAL, lambda **way: mappings.map_dma(copier.target.address, **way), WRONG)
    with refused(ENOENT):
        mappings.map_dma(copier.target.address, **{**WHERE, "iova": 0})
    mappings.map_dma(copier.target.address, **WHERE)
    assert mappings.unmap_dma(0, 0, ALL | NO_ADDRESS) == 3 * PAGE_BYTES


@claim("F79")
def test_the_process_that_sets_a_user_address_is_charged(user, copier, mappings):
    """A process that sets the user address of a mapping is charged for its locked memory."""
    child = user.fork()
    assert (locked_bytes(user), locked_bytes(child)) == (3 * PAGE_BYTES, 0)
    mappings.unmap_dma(TARGET, PAGE_BYTES, NO_ADDRESS)
    mappings.inherited_by(child).map_dma(copier.target.address, **WHERE)
    assert (locked_bytes(user), locked_bytes(child)) == (2 * PAGE_BYTES, PAGE_BYTES)
    mappings.unmap_dma(TARGET, PAGE_BYTES)
    assert (locked_bytes(user), locked_bytes(child)) == (2 * PAGE_BYTES, 0)


@claim("F79")
@pytest.mark.topology("igb-pair")
def test_no_group_joins_while_a_mapping_has_no_user_address(user, copier, mappings, nic):
    """No group can join a container while a mapping has no user address: EBUSY."""
    group = user.open_group(nic)
    mappings.unmap_dma(TARGET, PAGE_BYTES, NO_ADDRESS)
    with refused(EBUSY):
        group.set_container(mappings)
    mappings.map_dma(copier.target.address, **WHERE)
    group.set_container(mappings)


@claim("F110")
@pytest.mark.topology("igb-pair")
def test_a_group_joins_when_the_mapping_without_a_user_address_is_gone(user, copier, mappings, nic):
    """A group joins a container again once the mapping that has no user address is unmapped."""
    group = user.open_group(nic)
    assert copier.copy(MESSAGE) == MESSAGE
    mappings.unmap_dma(TARGET, PAGE_BYTES, NO_ADDRESS)
    with refused(EBUSY):
        group.set_container(mappings)
    assert mappings.unmap_dma(TARGET, PAGE_BYTES) == PAGE_BYTES
    group.set_container(mappings)
