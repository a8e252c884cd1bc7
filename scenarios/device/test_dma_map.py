"""What does VFIO_IOMMU_MAP_DMA accept?

Kernel: drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_map() and vfio_pin_pages_remote().
"""

from errno import EEXIST, EFAULT, EINVAL, ENOMEM, ENOSPC, EOVERFLOW

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.syscalls import CAP_IPC_LOCK, PROT_READ
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_MAP_FLAG_READ as READ
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_MAP_FLAG_VADDR as VADDR
from vfio_lab.uapi.vfio_type1 import VFIO_DMA_MAP_FLAG_WRITE as WRITE
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, limit_locked_memory, locked_bytes
from vfio_lab_pytest.sriov import open_ready_group
from vfio_lab_pytest.verdicts import all_refused, refused

END = 1 << 48  # of the addresses that the guest's IOMMU translates
LAST_PAGE = (1 << 64) - PAGE_BYTES
DISABLE_HUGEPAGES = "/sys/module/vfio_iommu_type1/parameters/disable_hugepages"
MOST = 65535
MANY = 1100  # pages, more than are pinned at a time

MALFORMED = {
    "nothing": {"size": 0},
    "off a page": {"iova": IOVA + 1},
    "from off a page": {"vaddr": 0x1001},
    "half a page": {"size": PAGE_BYTES // 2},
    "no access": {"flags": 0},
    "an unknown flag": {"flags": READ | 1 << 3},
    "access and a new address": {"flags": READ | VADDR},
    "too short": {"argsz": 31},
    "everything": {"iova": 0, "size": END},
    "across the end": {"iova": END - PAGE_BYTES, "size": 2 * PAGE_BYTES},
    "beyond the end": {"iova": END},
}
OVERLAPPING = {
    "the same": {"iova": IOVA, "size": 4 * PAGE_BYTES},
    "its first page": {"iova": IOVA},
    "its last page": {"iova": IOVA + 3 * PAGE_BYTES},
    "across its start": {"iova": IOVA - PAGE_BYTES, "size": 2 * PAGE_BYTES},
    "across its end": {"iova": IOVA + 3 * PAGE_BYTES, "size": 2 * PAGE_BYTES},
    "around it": {"iova": IOVA - PAGE_BYTES, "size": 6 * PAGE_BYTES},
}
WRAPPING = {
    "addresses of the device": {"iova": LAST_PAGE, "size": 2 * PAGE_BYTES},
    "addresses of the user": {"vaddr": LAST_PAGE, "size": 2 * PAGE_BYTES},
}


def in_the_window(window: range) -> dict[str, dict[str, int]]:
    """Return mappings that reach into the addresses of interrupt messages."""
    last_page = window.stop - PAGE_BYTES
    return {
        "in the window": {"iova": window.start},
        "at its end": {"iova": last_page},
        "into it": {"iova": window.start - PAGE_BYTES, "size": 2 * PAGE_BYTES},
        "out of it": {"iova": last_page, "size": 2 * PAGE_BYTES},
    }


@claim("F44")
def test_a_malformed_mapping_is_invalid(container, map_one, interrupt_window):
    """A mapping that is empty, unaligned, without access or out of range fails with EINVAL."""
    all_refused(EINVAL, map_one, MALFORMED | in_the_window(interrupt_window))
    assert container.dma_avail() == MOST
    map_one()
    map_one(iova=interrupt_window.start - PAGE_BYTES)
    map_one(iova=interrupt_window.stop)
    map_one(iova=END - PAGE_BYTES)
    assert container.dma_avail() == MOST - 4


@claim("F44")
def test_a_mapping_overlaps_no_other(container, map_one):
    """A mapping that overlaps another one fails with EEXIST."""
    map_one(size=4 * PAGE_BYTES)
    all_refused(EEXIST, map_one, OVERLAPPING)
    map_one(iova=IOVA - PAGE_BYTES)
    map_one(iova=IOVA + 4 * PAGE_BYTES)
    assert container.dma_avail() == MOST - 3


@claim("F85")
def test_a_mapping_that_wraps_overflows(map_one):
    """A mapping past the end of either address space fails with EOVERFLOW."""
    all_refused(EOVERFLOW, map_one, WRAPPING)
    map_one()


@claim("F86")
def test_a_mapping_that_wraps_is_invalid(map_one):
    """A mapping past the end of either address space fails with EINVAL."""
    all_refused(EINVAL, map_one, WRAPPING)
    map_one()


@claim("F44", "F87")
def test_a_container_limits_the_number_of_mappings(few_mappings, container, map_one):
    """One mapping above the limit fails with ENOSPC until another one is removed."""
    assert container.dma_avail() == few_mappings
    map_one(iova=0)
    map_one()
    with refused(ENOSPC):
        map_one(iova=IOVA + PAGE_BYTES)
    assert container.dma_avail() == 0
    container.unmap_dma(0, PAGE_BYTES)
    assert container.dma_avail() == 1
    map_one(iova=IOVA + PAGE_BYTES)


@claim("F44", "F88")
def test_a_mapping_above_rlimit_memlock_fails(guest, pf):
    """A mapping above RLIMIT_MEMLOCK fails with ENOMEM and a warning and locks nothing."""
    poor = guest.user("poor", drop=[CAP_IPC_LOCK])
    memory, container = poor.allocate(4 * PAGE_BYTES), open_ready_group(poor, pf).container
    limit_locked_memory(poor, 2 * PAGE_BYTES)
    with refused(ENOMEM):
        container.map_dma(memory, IOVA, 3 * PAGE_BYTES)
    assert locked_bytes(poor) == 0
    assert guest.dmesg(f"RLIMIT_MEMLOCK ({2 * PAGE_BYTES}) exceeded", level="warn")
    container.map_dma(memory, IOVA, 2 * PAGE_BYTES)
    with refused(ENOMEM):
        container.map_dma(memory, 0, PAGE_BYTES)
    assert locked_bytes(poor) == 2 * PAGE_BYTES


@claim("F88")
def test_cap_ipc_lock_lifts_rlimit_memlock(pf_user, container, memory):
    """With CAP_IPC_LOCK a user can map more than RLIMIT_MEMLOCK, which is still counted."""
    limit_locked_memory(pf_user, PAGE_BYTES)
    container.map_dma(memory, IOVA, 3 * PAGE_BYTES)
    assert locked_bytes(pf_user) == 3 * PAGE_BYTES
    assert container.unmap_dma(IOVA, 3 * PAGE_BYTES) == 3 * PAGE_BYTES
    assert locked_bytes(pf_user) == 0


@claim("F89")
def test_memory_that_its_user_cannot_access_is_not_mapped(pf_user, container, memory):
    """Mapping memory that its user cannot access fails with EFAULT and locks nothing."""
    pf_user.syscall("mprotect", memory, PAGE_BYTES, PROT_READ)
    pf_user.munmap(memory + 2 * PAGE_BYTES, PAGE_BYTES)
    with refused(EFAULT):
        container.map_dma(memory + PAGE_BYTES, IOVA, 2 * PAGE_BYTES)
    with refused(EFAULT):
        container.map_dma(memory, IOVA, PAGE_BYTES, READ | WRITE)
    assert (locked_bytes(pf_user), container.dma_avail()) == (0, MOST)
    container.map_dma(memory, IOVA, 2 * PAGE_BYTES, READ)


@claim("F89")
@pytest.mark.parametrize("hugepages", ["Y", "N"], ids=["page by page", "in batches"])
def test_memory_is_mapped_whole_or_not_at_all(guest, pf_user, container, hugepages):
    """A mapping of memory with a hole at its end fails and leaves nothing locked."""
    guest.root.write_file(DISABLE_HUGEPAGES, hugepages)
    size = MANY * PAGE_BYTES
    memory = pf_user.allocate(size + PAGE_BYTES)
    pf_user.munmap(memory + size, PAGE_BYTES)
    with refused(EFAULT):
        container.map_dma(memory, IOVA, size + PAGE_BYTES)
    assert (locked_bytes(pf_user), container.dma_avail()) == (0, MOST)
    container.map_dma(memory, IOVA, size)
    assert locked_bytes(pf_user) == size
    assert (container.unmap_dma(IOVA, size), locked_bytes(pf_user)) == (size, 0)
