"""Which memory does a device reach?

Threads: 2013-groups and 2020-vf-token. Both assume that the IOMMU limits a device to what its user
mapped.
Kernel: drivers/vfio/vfio_iommu_type1.c; drivers/iommu/intel/dmar.c, dmar_fault();
drivers/iommu/amd/iommu.c, amd_iommu_report_page_fault().
"""

import pytest

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
from vfio_lab_pytest.iommus import on_every_translating_iommu, reported_faults

MESSAGE = bytes(range(64))
NOTHING = UNTOUCHED * len(MESSAGE)

SECOND_STAGE = pytest.mark.needs(
    arch="x86_64", because="an SMMUv3 has first-stage tables for users, see K37"
)


@claim("F50", "F80")
@on_every_translating_iommu
def test_a_device_reads_only_what_is_mapped_for_it(guest, loopback, mappings):
    """A device cannot read memory that is not mapped, and the IOMMU reports it."""
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) != MESSAGE
    assert reported_faults(guest, SOURCE)
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, READ)
    assert loopback.copy(MESSAGE) == MESSAGE


@claim("F50", "F80")
@on_every_translating_iommu
def test_a_device_writes_only_what_is_mapped_for_writing(guest, loopback, mappings):
    """A device cannot write to memory that is not mapped for writing, and the IOMMU reports it."""
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, READ)
    assert loopback.copy(MESSAGE) == NOTHING
    assert reported_faults(guest, TARGET)
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, READ)
    assert loopback.copy(MESSAGE) == NOTHING
    mappings.unmap_dma(TARGET, PAGE_BYTES)
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) == MESSAGE


@pytest.mark.parametrize(
    "topology",
    [
        pytest.param("igb", marks=[claim("F81"), SECOND_STAGE]),
        pytest.param("intel-pt", marks=[claim("F81"), SECOND_STAGE]),
        pytest.param("intel-strict", marks=[claim("F81"), SECOND_STAGE]),
        pytest.param("virtio-iommu", marks=claim("K29")),
    ],
    indirect=True,
)
def test_a_device_cannot_read_memory_mapped_only_for_writing(loopback, mappings):
    """A device cannot read memory that is mapped only for writing."""
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, WRITE)
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) != MESSAGE
    mappings.unmap_dma(SOURCE, PAGE_BYTES)
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, READ | WRITE)
    assert loopback.copy(MESSAGE) == MESSAGE


@pytest.mark.parametrize(
    "topology",
    [
        pytest.param("scalable", marks=claim("K31")),
        pytest.param("igb", marks=claim("K37")),
    ],
    indirect=True,
)
def test_first_stage_tables_let_a_device_read_what_is_mapped_for_writing_alone(loopback, mappings):
    """A device behind first-stage tables reads memory that is mapped only for writing."""
    mappings.map_dma(loopback.target.address, TARGET, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) != MESSAGE
    mappings.map_dma(loopback.source.address, SOURCE, PAGE_BYTES, WRITE)
    assert loopback.copy(MESSAGE) == MESSAGE


@claim("F82")
@on_every_translating_iommu
def test_unmapped_memory_is_unreachable_at_once(copier, mappings):
    """A device no longer writes to memory after VFIO_IOMMU_UNMAP_DMA has returned."""
    assert copier.copy(MESSAGE) == MESSAGE
    assert mappings.unmap_dma(TARGET, PAGE_BYTES) == PAGE_BYTES
    assert copier.copy(MESSAGE) == NOTHING


@claim("F83")
@on_every_translating_iommu
def test_a_device_starts_no_dma_with_bus_mastering_off(copier):
    """A device starts no DMA while bus mastering is off."""
    copier.master(on=False)
    assert copier.copy(MESSAGE) == NOTHING
    copier.device.reset()
    copier.start()
    assert copier.copy(MESSAGE) == MESSAGE


@claim("F84")
@on_every_translating_iommu
def test_a_device_reads_what_its_user_wrote_after_the_mapping(user, copier, mappings):
    """A device reads what its user wrote after mapping untouched memory for reading."""
    mappings.unmap_dma(SOURCE, PAGE_BYTES)
    copier.source = Page(user.allocate(PAGE_BYTES), SOURCE)
    mappings.map_dma(copier.source.address, SOURCE, PAGE_BYTES, READ)
    assert copier.copy(MESSAGE) == MESSAGE
