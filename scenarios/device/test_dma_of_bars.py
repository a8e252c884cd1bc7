"""Can one device's registers be mapped for another device?

Kernel: drivers/vfio/vfio_iommu_type1.c, vaddr_get_pfns() and follow_fault_pfn();
drivers/iommu/iommufd/pages.c, pfn_reader_user_pin().
"""

from errno import EFAULT

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import SOURCE, Page
from vfio_lab.drivers.intel_nic import MTA
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import locked_bytes
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("igb-pair")
MESSAGE = bytes(range(64))
TABLE_PAGE, TABLE_OFFSET = MTA & -PAGE_BYTES, MTA % PAGE_BYTES


@claim("F48")
def test_a_device_reads_another_devices_registers(user, copier, mappings, other_pf):
    """type1 maps a BAR of one device for another device and counts no locked memory for it."""
    locked = locked_bytes(user)
    bar = user.open(other_pf).mmap_region(0, PAGE_BYTES, TABLE_PAGE)
    user.poke(bar + TABLE_OFFSET, MESSAGE, 4)
    assert mappings.unmap_dma(SOURCE, PAGE_BYTES) == PAGE_BYTES
    mappings.map_dma(bar, SOURCE, PAGE_BYTES)
    copier.source = Page(user.allocate(PAGE_BYTES), SOURCE + TABLE_OFFSET)
    assert copier.copy(bytes(64)) == MESSAGE
    assert locked_bytes(user) == locked - PAGE_BYTES
    assert mappings.unmap_dma(SOURCE, PAGE_BYTES) == PAGE_BYTES


@claim("F77")
def test_an_ioas_maps_no_registers(user, attached, ioas, other_pf):
    """iommufd refuses to map a BAR: EFAULT."""
    bar = user.open(other_pf, access="cdev").mmap_region(0, PAGE_BYTES)
    user.peek(bar, 4, 4)
    with refused(EFAULT):
        attached.iommufd.ioas_map(ioas, bar, PAGE_BYTES, SOURCE)
    attached.iommufd.ioas_map(ioas, user.allocate(PAGE_BYTES), PAGE_BYTES, SOURCE)
