"""What memory does a device reach?

Thread: 2013-groups and 2020-vf-token rest on the IOMMU keeping a device to what its user mapped.
Kernel: drivers/vfio/vfio_iommu_type1.c; drivers/iommu/intel/dmar.c, dmar_fault().
"""

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import (
    SOURCE,
    TARGET,
    UNTOUCHED,
    Page,
)
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_MAP_FLAG_READ as READ
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_MAP_FLAG_WRITE as WRITE
from vfio_lab_pytest.claims import claim

MESSAGE = bytes(range(64))
NOTHING = UNTOUCHED * len(MESSAGE)


@claim("F50", "F80")
def test_a_device_reads_only_what_is_mapped_for_it(guest, loopback, mappings):
    """Bytes not mapped are not read, and the IOMMU says so; mapped they are."""
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) != MESSAGE
    assert guest.dmesg(f"fault addr {SOURCE:#x}", level="err")
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, READ)
    assert loopback.copy(MESSAGE) == MESSAGE


@claim("F50", "F80")
def test_a_device_writes_only_what_is_mapped_for_writing(guest, loopback, mappings):
    """A page not mapped, or mapped for reading, stays as it was, and the IOMMU says so."""
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, READ)
    assert loopback.copy(MESSAGE) == NOTHING
    assert guest.dmesg(f"fault addr {TARGET:#x}", level="err")
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, READ)
    assert loopback.copy(MESSAGE) == NOTHING
    mappings.unmap_dma(TARGET, PAGE_BYTES)
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) == MESSAGE


@claim("F81")
def test_a_device_reads_nothing_that_is_mapped_for_writing_alone(loopback, mappings):
    """A page mapped without the flag for reading is not read, with it it is."""
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, WRITE)
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) != MESSAGE
    mappings.unmap_dma(SOURCE, PAGE_BYTES)
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, READ | WRITE)
    assert loopback.copy(MESSAGE) == MESSAGE


@claim("F82")
def test_what_is_unmapped_is_out_of_a_devices_reach_at_once(copier, mappings):
    """When UNMAP_DMA has returned, the device no longer writes there."""
    assert copier.copy(MESSAGE) == MESSAGE
    assert mappings.unmap_dma(TARGET, PAGE_BYTES) == PAGE_BYTES
    assert copier.copy(MESSAGE) == NOTHING


@claim("F83")
def test_a_device_begins_nothing_until_its_user_lets_it_master_the_bus(copier):
    """Bus mastering is his to set in config space; without it mapped memory stays as it is."""
    copier.master(on=False)
    assert copier.copy(MESSAGE) == NOTHING
    copier.device.reset()
    copier.start()
    assert copier.copy(MESSAGE) == MESSAGE


@claim("F84")
def test_what_a_user_writes_after_the_mapping_is_what_the_device_reads(user, copier, mappings):
    """Memory mapped for reading before its first write is the user's own, not a page of zeros."""
    mappings.unmap_dma(SOURCE, PAGE_BYTES)
    copier.source = Page(user.allocate(PAGE_BYTES), SOURCE)
    mappings.map_dma(copier.source.address, SOURCE, PAGE_BYTES, READ)
    assert copier.copy(MESSAGE) == MESSAGE
