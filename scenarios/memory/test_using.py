"""What remains of a call on an open device for which the kernel had no memory?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_pci_hot_reset_groups() and
vfio_pci_ioctl_get_pci_hot_reset_info(); drivers/vfio/pci/vfio_pci_intrs.c, vfio_msi_enable() and
vfio_msi_set_vector_signal(); drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_map();
drivers/iommu/iommufd/ioas.c, iommufd_ioas_map().
"""

from errno import ENODEV, ENOSPC
from functools import partial

import pytest

from vfio_lab.client.failslab import fail_each
from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.uapi.vfio import VFIO_PCI_BAR3_REGION_INDEX as BAR3
from vfio_lab.uapi.vfio import VFIO_PCI_INTX_IRQ_INDEX as INTX
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import handlers
from vfio_lab_pytest.dma import locked_bytes
from vfio_lab_pytest.hot_reset import WIPED, canaries

NO_VECTORS = frozenset({ENODEV, ENOSPC})  # from the interrupt domains: drivers/pci/msi, kernel/irq


@claim("H08")
@pytest.mark.topology("multifunction")
def test_a_hot_reset_can_be_done_after_a_failure(fail_each_allocation, held, held_sibling):
    """A hot reset that failed for lack of memory succeeds later and resets both functions."""
    fail_each_allocation(held.user, lambda: held.hot_reset([held.group]))
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("H09")
def test_info_ioctls_can_be_repeated_after_a_failure(fail_each_allocation, device):
    """Hot-reset info and region info fail for lack of memory or answer completely."""
    resets, regions = [], []
    fail_each_allocation(device.user, device.hot_reset_info, resets.append)
    fail_each_allocation(device.user, partial(device.region_capabilities, BAR3), regions.append)
    assert len({*resets}) == len({*regions}) == 1


@claim("H10")
@pytest.mark.complains(
    "WARN"
)  # the interrupt core removes files in /proc/irq that it never created
@pytest.mark.usefixtures("mastering")
def test_a_failed_setup_of_msix_leaves_no_handler(
    fail_each_allocation, function, device, registers, irq_fd
):
    """An MSI-X vector not set up for lack of memory has no handler and can be set up later."""
    fail_each_allocation(
        device.user,
        lambda: device.set_irq_eventfds(MSIX, [irq_fd.fd]),
        lambda _: device.disable_irqs(MSIX),
        or_else=NO_VECTORS,
    )
    assert handlers(function) == []
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("H10")
@pytest.mark.topology("multifunction")
def test_a_failed_setup_of_intx_leaves_no_handler(fail_each_allocation, nic, held, irq_fd):
    """INTx not set up for lack of memory has no handler and can be set up later."""
    fail_each_allocation(
        held.user,
        lambda: held.set_irq_eventfds(INTX, [irq_fd.fd]),
        lambda _: held.disable_irqs(INTX),
    )
    assert handlers(nic) == []
    held.set_irq_eventfds(INTX, [irq_fd.fd])
    assert handlers(nic)


@claim("H11")
def test_a_failed_mapping_locks_no_memory(fail_each_allocation, device, mappings):
    """Memory that a container could not map for lack of memory is not locked."""
    user = device.user
    address = user.allocate(4 * PAGE_BYTES)
    fail_each_allocation(
        user,
        lambda: mappings.map_dma(address, 0, 4 * PAGE_BYTES),
        lambda _: mappings.unmap_dma(0, 4 * PAGE_BYTES),
    )
    assert locked_bytes(user) == 0
    mappings.map_dma(address, 0, 4 * PAGE_BYTES)
    assert locked_bytes(user) == 4 * PAGE_BYTES


@claim("H14")
@pytest.mark.usefixtures("starving")
def test_an_unmap_needs_no_memory(device, mappings):
    """Memory is unmapped and no longer locked, whichever allocation of the unmap failed."""
    user, size = device.user, 4 * PAGE_BYTES
    map_again = partial(mappings.map_dma, user.allocate(size), 0, size)
    map_again()
    seen = fail_each(user, lambda: mappings.unmap_dma(0, size), lambda _: map_again())
    assert {*seen} == {0}
    assert locked_bytes(user) == size
    assert (mappings.unmap_dma(0, size), locked_bytes(user)) == (size, 0)


@claim("H12")
def test_a_failed_mapping_of_iommufd_pins_no_memory(fail_each_allocation, attached, ioas):
    """Memory that iommufd could not map for lack of memory is not pinned."""
    user, iommufd, size = attached.user, attached.iommufd, 4 * PAGE_BYTES
    address = user.allocate(size)
    fail_each_allocation(
        user,
        lambda: iommufd.ioas_map(ioas, address, size, 0),
        lambda iova: iommufd.ioas_unmap(ioas, iova, size),
    )
    assert pinned_bytes(user) == 0
    iommufd.ioas_map(ioas, address, size, 0)
    assert pinned_bytes(user) == size
