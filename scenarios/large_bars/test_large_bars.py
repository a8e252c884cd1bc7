"""Is a BAR of 2 MiB to 1 GiB mapped rightly, wherever the mapping starts and whatever its size?

Reports: bugzilla 219619 and 09dfc8a5f2ce (a huge fault mapped the wrong pages), c1d9dac0db16 (huge
faults ended in VM_FAULT_OOM). The memory of the devices is BAR 2; each byte that a mapping shows is
compared with what the device's file shows. Kernel: drivers/vfio/pci/vfio_pci_core.c,
vfio_pci_core_mmap(), vfio_pci_mmap_huge_fault() and vfio_pci_vmf_insert_pfn().
"""

from errno import EINVAL
from functools import partial
from signal import SIGBUS

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.hw.models import GIB, MIB
from vfio_lab.uapi.pci_regs import PCI_COMMAND_MEMORY
from vfio_lab.uapi.syscalls import O_CREAT, O_RDWR
from vfio_lab.uapi.vfio import VFIO_PCI_BAR2_REGION_INDEX as MEMORY
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import faults, turn_off, turn_on
from vfio_lab_pytest.large_bars import HUGE, at_offset, marked
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.topology("large-bars")
SIZES = {"mem0": 64 * MIB, "mem1": GIB, "mem2": 2 * MIB}
EACH_DEVICE = pytest.mark.parametrize("role", SIZES)
# Where the mapping starts in the BAR, where in a huge page of the user's, and its size.
PLACES = {
    "both aligned": (0, 0, 4 * MIB),
    "the BAR's off a huge page": (PAGE_BYTES, 0, 4 * MIB),
    "the user's off a huge page": (0, PAGE_BYTES, 4 * MIB),
    "both off alike": (PAGE_BYTES, PAGE_BYTES, 4 * MIB),
    "both off differently": (3 * PAGE_BYTES, 7 * PAGE_BYTES, 4 * MIB),
    "less than a huge page": (HUGE, 0, HUGE - PAGE_BYTES),
    "a page more than one": (HUGE, 0, HUGE + PAGE_BYTES),
    "the last page": (64 * MIB - PAGE_BYTES, 0, PAGE_BYTES),
}


@pytest.fixture
def role():
    """The device with 64 MiB of memory, unless a parameter says otherwise."""
    return "mem0"


@pytest.fixture
def function(guest, role):
    """A device whose BAR 2 is memory, on vfio-pci."""
    return on_vfio_pci(guest, role)


@claim("L01")
@EACH_DEVICE
def test_a_bar_is_as_large_as_it_says(device, role):
    """A BAR of 2 MiB to 1 GiB is reported with its size, and its last bytes can be used."""
    info = device.get_region_info(MEMORY)
    assert info.size == SIZES[role]
    device.write_region(MEMORY, SIZES[role] - 8, b"the last")
    assert device.read_region(MEMORY, SIZES[role] - 8, 8) == b"the last"
    with refused(EINVAL):
        device.read_region(MEMORY, SIZES[role], 1)


@claim("L02")
@pytest.mark.parametrize(("start", "skew", "size"), PLACES.values(), ids=PLACES)
def test_a_mapping_shows_the_pages_that_it_is_of(user, device, start, skew, size):
    """Each page of a mapping shows its own page of the BAR, whatever the alignment of both."""
    offsets = marked(device, MEMORY, start, size)
    address = at_offset(user, size, skew)
    user.mmap(device.fd, size, device.region_offset(MEMORY) + start, address=address)
    first_huge = -address % HUGE
    assert user.touch(address + first_huge % size) is None
    seen = [
        int.from_bytes(user.peek(address + offset - start, 8, 8), "little") for offset in offsets
    ]
    assert seen == offsets


@claim("L03")
@EACH_DEVICE
def test_a_large_bar_is_mapped_in_large_pieces(user, device, role):
    """Reading all of 2 MiB of an aligned mapping of a BAR takes a few faults, not one a page."""
    address = at_offset(user, SIZES[role], 0)
    user.mmap(device.fd, SIZES[role], device.region_offset(MEMORY), address=address)
    copy = user.open_path("/run/copy", O_RDWR | O_CREAT)
    before = faults(user)
    assert user.syscall("write", copy, address + SIZES[role] - HUGE, HUGE).value == HUGE
    assert faults(user) - before < HUGE // PAGE_BYTES // 8


@claim("L04")
def test_a_mapping_ends_where_its_bar_does(device):
    """A mapping that exceeds a large BAR by a page fails with EINVAL; the whole BAR is mapped."""
    size = SIZES["mem0"]
    assert outcome(partial(device.mmap_region, MEMORY, size + PAGE_BYTES)) == EINVAL
    assert outcome(partial(device.mmap_region, MEMORY, PAGE_BYTES, size)) == EINVAL
    assert outcome(partial(device.mmap_region, MEMORY, size, PAGE_BYTES)) == EINVAL
    assert device.mmap_region(MEMORY, size) > 0


@claim("L05")
@pytest.mark.parametrize("place", [0, HUGE, 64 * MIB - PAGE_BYTES], ids=hex)
def test_a_mapping_of_a_large_bar_follows_memory_decode(user, device, config, place):
    """Access to a huge mapping raises SIGBUS while memory decode is off, and works afterwards."""
    device.write_region(MEMORY, place, b"written!")
    mapped = device.mmap_region(MEMORY, SIZES["mem0"]) + place
    assert user.peek(mapped, 8, 8) == b"written!"
    turn_off(config, PCI_COMMAND_MEMORY)
    assert user.touch(mapped) is SIGBUS
    turn_on(config, PCI_COMMAND_MEMORY)
    assert user.peek(mapped, 8, 8) == b"written!"


@claim("L06")
def test_a_hole_in_a_mapping_leaves_the_rest(user, device):
    """A page unmapped from the middle of a huge mapping is gone, and its neighbours still work."""
    hole = HUGE + 5 * PAGE_BYTES
    marked(device, MEMORY, 0, SIZES["mem0"])
    mapped = device.mmap_region(MEMORY, SIZES["mem0"])
    user.peek(mapped + hole, 8, 8)
    user.munmap(mapped + hole, PAGE_BYTES)
    assert user.touch(mapped + hole) is not None
    assert user.touch(mapped + hole - PAGE_BYTES) is None
    assert user.touch(mapped + hole + PAGE_BYTES) is None
    assert user.peek(mapped + 2 * HUGE, 8, 8) == (2 * HUGE).to_bytes(8, "little")


@claim("L07")
def test_part_of_a_large_bar_is_mapped_for_dma(device, mappings):
    """A container maps any whole pages of a large BAR for DMA, and unmaps what it mapped."""
    mapped = device.mmap_region(MEMORY, SIZES["mem0"])
    mappings.map_dma(mapped, 0, SIZES["mem0"])
    with refused(EINVAL):
        mappings.map_dma(mapped, GIB, PAGE_BYTES // 2)
    mappings.map_dma(mapped + 3 * PAGE_BYTES, GIB, HUGE)
    assert mappings.unmap_dma(GIB, HUGE) == HUGE
    assert mappings.unmap_dma(0, SIZES["mem0"]) == SIZES["mem0"]


@claim("L08")
@pytest.mark.parametrize("start", [0, PAGE_BYTES, HUGE - PAGE_BYTES], ids=hex)
def test_part_of_a_large_bar_is_mapped_through_a_dma_buf(attached, ioas, start):
    """A dma-buf of any whole pages of a large BAR is mapped into an IOAS, whole or in part."""
    dma_buf = attached.export_dma_buf(MEMORY, [(start, 2 * HUGE)])
    iommufd = attached.iommufd
    assert iommufd.ioas_map_file(ioas, dma_buf, 0, 2 * HUGE, GIB) == GIB
    assert iommufd.ioas_map_file(ioas, dma_buf, PAGE_BYTES, HUGE, 2 * GIB) == 2 * GIB
    with refused(EINVAL):
        iommufd.ioas_map_file(ioas, dma_buf, HUGE, 2 * HUGE, 3 * GIB)
    assert iommufd.ioas_unmap(ioas, GIB, 2 * HUGE) == 2 * HUGE


@claim("L09")
def test_locks_of_mappings_and_resets_are_taken_in_one_order(user, device, mappings):
    """Mapping a BAR for DMA, touching it and asking for hot-reset info work in one guest."""
    mapped = device.mmap_region(MEMORY, SIZES["mem0"])
    mappings.map_dma(mapped, 0, HUGE)
    assert user.touch(mapped + HUGE) is None
    assert device.hot_reset_info().bdfs
    mappings.unmap_dma(0, HUGE)
