"""What is left of a call for which the kernel had no memory, beyond those of scenarios/memory?

Each call is repeated, each time with the next of its allocations failing (failslab). Kernel:
drivers/vfio/pci/vfio_pci_dmabuf.c; drivers/iommu/iommufd/ioas.c; drivers/vfio/virqfd.c;
drivers/vfio/vfio_iommu_type1.c, vfio_dma_bitmap_alloc_all().
"""

import ctypes
from functools import partial

from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_IOEVENTFD,
    VFIO_DEVICE_IOEVENTFD_32,
    vfio_device_ioeventfd,
)
from vfio_lab.uapi.vfio import VFIO_PCI_REQ_IRQ_INDEX as REQUEST
from vfio_lab.uapi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES_FLAG_START as START
from vfio_lab.uapi.vfio_type1 import VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP as STOP
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA
from vfio_lab_pytest.exhaustion import memfd

EVERYTHING = (1 << 64) - 1
MTA = 0x5200


@claim("M13")
def test_a_dma_buf_that_was_not_made_holds_no_device(fail_each_allocation, user, bound_device, pf):
    """A dma-buf that could not be made for lack of memory does not keep its device."""
    export = partial(bound_device.export_dma_buf, 0, [(0, PAGE_BYTES)])
    fail_each_allocation(user, export, user.close)
    bound_device.close()
    pf.unbind()
    assert pf.driver is None


@claim("M14")
def test_an_address_space_that_was_not_made_is_none(fail_each_allocation, user, bound_device):
    """An IOAS that could not be made for lack of memory leaves its iommufd usable."""
    iommufd = bound_device.iommufd
    fail_each_allocation(user, iommufd.ioas_alloc, iommufd.destroy)
    assert bound_device.attach_iommufd_pt(iommufd.ioas_alloc()) > 0


@claim("M15")
def test_a_memory_file_that_was_not_mapped_is_not_pinned(
    fail_each_allocation, user, attached, ioas
):
    """A memory file that could not be mapped for lack of memory is not pinned."""
    iommufd, fd = attached.iommufd, memfd(user, 4 * PAGE_BYTES)
    fail_each_allocation(
        user,
        lambda: iommufd.ioas_map_file(ioas, fd, 0, 4 * PAGE_BYTES, IOVA),
        lambda _: iommufd.ioas_unmap(ioas, 0, EVERYTHING),
    )
    assert pinned_bytes(user) == 0
    assert iommufd.ioas_map_file(ioas, fd, 0, 4 * PAGE_BYTES, IOVA) == IOVA


@claim("M16")
def test_a_rule_that_was_not_made_is_none(fail_each_allocation, user, device, irq_fd):
    """An ioeventfd rule that could not be made for lack of memory can be made later."""
    size, flags = ctypes.sizeof(vfio_device_ioeventfd), VFIO_DEVICE_IOEVENTFD_32
    rule = partial(vfio_device_ioeventfd, argsz=size, flags=flags, offset=MTA, data=1)
    make = partial(device.exchange, VFIO_DEVICE_IOEVENTFD, rule(fd=irq_fd.fd))
    undo = partial(device.exchange, VFIO_DEVICE_IOEVENTFD, rule(fd=-1))
    fail_each_allocation(user, make, lambda _: undo())
    make()


@claim("M17")
def test_a_tracking_that_did_not_start_can_start_later(fail_each_allocation, user, mappings):
    """Dirty tracking that could not start for lack of memory is off, and can start later."""
    mappings.map_dma(user.allocate(PAGE_BYTES), IOVA, PAGE_BYTES)
    fail_each_allocation(
        user, lambda: mappings.dirty_pages(START), lambda _: mappings.dirty_pages(STOP)
    )
    mappings.dirty_pages(START)
    assert mappings.dirty_bitmap(IOVA, PAGE_BYTES, PAGE_BYTES)[0] == 1


@claim("M18")
def test_a_request_channel_that_was_not_set_is_none(fail_each_allocation, user, device, irq_fd):
    """An eventfd for requests that could not be set for lack of memory can be set later."""
    fail_each_allocation(user, lambda: device.set_irq_eventfds(REQUEST, [irq_fd.fd]))
    device.trigger_irqs(REQUEST)
    assert irq_fd.wait() == 1
