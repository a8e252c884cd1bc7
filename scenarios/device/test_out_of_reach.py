"""What if the kernel cannot read an argument or cannot write an answer?

Kernel: the ioctls of drivers/vfio/pci/vfio_pci_core.c, drivers/vfio/vfio_main.c,
drivers/vfio/group.c and drivers/vfio/vfio_iommu_type1.c; drivers/vfio/pci/vfio_pci_rdwr.c,
vfio_pci_core_do_io_rw(); drivers/vfio/pci/vfio_pci_config.c, vfio_pci_config_rw_single().
"""

from ctypes import sizeof
from errno import EEXIST, EFAULT, EINVAL
from functools import partial

from vfio_lab.client.call import Buffer
from vfio_lab.client.memory import NOWHERE, PAGE_BYTES, read_only
from vfio_lab.uapi import vfio, vfio_type1
from vfio_lab.uapi.pci_regs import PCI_COMMAND
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX as BAR0
from vfio_lab.uapi.vfio import VFIO_PCI_BAR3_REGION_INDEX as BAR3
from vfio_lab.uapi.vfio import VFIO_PCI_CONFIG_REGION_INDEX as CONFIG
from vfio_lab.uapi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP as GET_BITMAP
from vfio_lab.uapi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES_FLAG_START as START
from vfio_lab_pytest.arguments import answered, unanswered, unread
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA
from vfio_lab_pytest.verdicts import all_refused, none_refused, refused

BITMAP_BYTES = 8
KERNELS_HALF = 1 << 63


def of(struct, **fields):
    """Return an argument that tells its size."""
    return struct(argsz=sizeof(struct), **fields)


ASKED = {
    "GET_INFO": (vfio.VFIO_DEVICE_GET_INFO, of(vfio.vfio_device_info)),
    "GET_REGION_INFO": (vfio.VFIO_DEVICE_GET_REGION_INFO, of(vfio.vfio_region_info)),
    "GET_IRQ_INFO": (vfio.VFIO_DEVICE_GET_IRQ_INFO, of(vfio.vfio_irq_info)),
}
TOLD = {
    "SET_IRQS": (vfio.VFIO_DEVICE_SET_IRQS, of(vfio.vfio_irq_set)),
    "IOEVENTFD": (vfio.VFIO_DEVICE_IOEVENTFD, of(vfio.vfio_device_ioeventfd)),
    "FEATURE": (vfio.VFIO_DEVICE_FEATURE, of(vfio.vfio_device_feature)),
}
STATUS = {"GET_STATUS": (vfio.VFIO_GROUP_GET_STATUS, of(vfio.vfio_group_status))}
LIMITS = {"GET_INFO": (vfio_type1.VFIO_IOMMU_GET_INFO, of(vfio_type1.vfio_iommu_type1_info))}
MAPPINGS = {
    "MAP_DMA": (vfio_type1.VFIO_IOMMU_MAP_DMA, of(vfio_type1.vfio_iommu_type1_dma_map)),
    "UNMAP_DMA": (vfio_type1.VFIO_IOMMU_UNMAP_DMA, of(vfio_type1.vfio_iommu_type1_dma_unmap)),
    "DIRTY_PAGES": (
        vfio_type1.VFIO_IOMMU_DIRTY_PAGES,
        of(vfio_type1.vfio_iommu_type1_dirty_bitmap),
    ),
}
UNMAP = {
    "UNMAP_DMA": (
        vfio_type1.VFIO_IOMMU_UNMAP_DMA,
        of(vfio_type1.vfio_iommu_type1_dma_unmap, iova=IOVA, size=PAGE_BYTES),
    )
}
# Structs whose argsz is larger than the struct.
CAPABILITIES = {
    "GET_REGION_INFO": (
        vfio.VFIO_DEVICE_GET_REGION_INFO,
        vfio.vfio_region_info(argsz=PAGE_BYTES, index=BAR3),
    )
}
SLEEP = {
    "FEATURE": (
        vfio.VFIO_DEVICE_FEATURE,
        vfio.vfio_device_feature(
            argsz=PAGE_BYTES,
            flags=vfio.VFIO_DEVICE_FEATURE_SET
            | vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
        ),
    )
}
LONG = {
    "GET_INFO": (
        vfio_type1.VFIO_IOMMU_GET_INFO,
        vfio_type1.vfio_iommu_type1_info(argsz=PAGE_BYTES),
    ),
    "UNMAP_DMA": (
        vfio_type1.VFIO_IOMMU_UNMAP_DMA,
        vfio_type1.vfio_iommu_type1_dma_unmap(
            argsz=PAGE_BYTES, flags=vfio_type1.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
        ),
    ),
    "DIRTY_PAGES": (
        vfio_type1.VFIO_IOMMU_DIRTY_PAGES,
        vfio_type1.vfio_iommu_type1_dirty_bitmap(argsz=PAGE_BYTES, flags=GET_BITMAP),
    ),
}


def into_nowhere(device, offset):
    """Return a read and a write of a device file with an unmapped buffer."""
    return {
        call: partial(device.user.syscall, call, device.fd, NOWHERE, 2, offset)
        for call in ("pread64", "pwrite64")
    }


def unmap_with_dirty_pages(container, address):
    """Unmap a page and have its dirty bitmap written to `address`."""
    bitmap = vfio_type1.vfio_bitmap(pgsize=PAGE_BYTES, size=BITMAP_BYTES, data=address)
    head = vfio_type1.vfio_iommu_type1_dma_unmap(
        argsz=PAGE_BYTES,
        flags=vfio_type1.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
        iova=IOVA,
        size=PAGE_BYTES,
    )
    container.ioctl(vfio_type1.VFIO_IOMMU_UNMAP_DMA, Buffer(bytes(head) + bytes(bitmap)))


def ask_for_dirty_pages(container, address):
    """Ask for the dirty bitmap of a page and have it written to `address`."""
    bitmap = vfio_type1.vfio_bitmap(pgsize=PAGE_BYTES, size=BITMAP_BYTES, data=address)
    page = vfio_type1.vfio_iommu_type1_dirty_bitmap_get(iova=IOVA, size=PAGE_BYTES, bitmap=bitmap)
    head = vfio_type1.vfio_iommu_type1_dirty_bitmap(argsz=8 + len(bytes(page)), flags=GET_BITMAP)
    container.ioctl(vfio_type1.VFIO_IOMMU_DIRTY_PAGES, Buffer(bytes(head) + bytes(page)))


@claim("F101")
def test_a_device_refuses_an_unreadable_argument(device):
    """Device ioctls fail with EFAULT if the argument cannot be read completely."""
    all_refused(EFAULT, unread(device, {**ASKED, **TOLD}))
    none_refused(answered(device, ASKED))


@claim("F101")
def test_a_device_refuses_an_unwritable_answer(device):
    """Device ioctls fail with EFAULT if the answer or its capabilities cannot be written."""
    all_refused(EFAULT, unanswered(device, ASKED))
    all_refused(EFAULT, answered(device, CAPABILITIES))
    assert device.region_capabilities(BAR3)


@claim("F101")
def test_a_device_refuses_an_unmapped_buffer(device):
    """Reads and writes of a device with an unmapped buffer fail with EFAULT."""
    before = device.read_config(PCI_COMMAND, 2)
    all_refused(EFAULT, into_nowhere(device, device.region_offset(CONFIG) + PCI_COMMAND))
    all_refused(EFAULT, into_nowhere(device, device.region_offset(BAR0)))
    assert device.read_config(PCI_COMMAND, 2) == before


@claim("F101")
def test_a_low_power_entry_with_an_unreadable_eventfd_fails(device):
    """A low-power entry whose eventfd cannot be read fails and leaves the device awake."""
    all_refused(EFAULT, answered(device, SLEEP))
    device.enter_low_power()
    with refused(EINVAL):
        device.enter_low_power()


@claim("F101")
def test_a_group_refuses_an_unmapped_struct(pf_group):
    """VFIO_GROUP_GET_STATUS fails with EFAULT if its struct cannot be accessed."""
    all_refused(EFAULT, unread(pf_group, STATUS))
    all_refused(EFAULT, unanswered(pf_group, STATUS))
    none_refused(answered(pf_group, STATUS))


@claim("F101")
def test_a_container_refuses_an_unmapped_argument(container):
    """Container ioctls fail with EFAULT if the argument or the answer cannot be accessed."""
    all_refused(EFAULT, unread(container, {**LIMITS, **MAPPINGS}))
    all_refused(EFAULT, unanswered(container, LIMITS))
    all_refused(EFAULT, answered(container, LONG))
    none_refused(answered(container, LIMITS))


@claim("F101")
def test_an_unmap_whose_answer_cannot_be_written_is_done(container, memory):
    """An unmap whose size cannot be returned fails with EFAULT but is done."""
    container.map_dma(memory, IOVA, PAGE_BYTES)
    with refused(EEXIST):
        container.map_dma(memory, IOVA, PAGE_BYTES)
    all_refused(EFAULT, unanswered(container, UNMAP))
    container.map_dma(memory, IOVA, PAGE_BYTES)


@claim("F101")
def test_an_unwritable_dirty_bitmap_fails(container, memory):
    """A dirty bitmap fails with EFAULT in read-only memory and EINVAL at a kernel address."""
    container.map_dma(memory, IOVA, PAGE_BYTES)
    container.dirty_pages(START)
    with refused(EFAULT):
        ask_for_dirty_pages(container, read_only(container.user, bytes(BITMAP_BYTES)))
    with refused(EINVAL):
        ask_for_dirty_pages(container, KERNELS_HALF)
    ask_for_dirty_pages(container, memory)
    assert container.user.peek(memory, BITMAP_BYTES)[0] == 1


@claim("F101")
def test_an_unmap_with_an_unwritable_dirty_bitmap_removes_nothing(container, memory):
    """An unmap whose dirty bitmap cannot be written fails and removes nothing."""
    container.map_dma(memory, IOVA, PAGE_BYTES)
    container.dirty_pages(START)
    with refused(EFAULT):
        unmap_with_dirty_pages(container, read_only(container.user, bytes(BITMAP_BYTES)))
    with refused(EINVAL):
        unmap_with_dirty_pages(container, KERNELS_HALF)
    with refused(EEXIST):
        container.map_dma(memory, IOVA, PAGE_BYTES)
    unmap_with_dirty_pages(container, memory)
    container.map_dma(memory, IOVA, PAGE_BYTES)
