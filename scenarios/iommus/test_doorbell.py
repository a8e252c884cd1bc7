"""Where do interrupt messages go on arm64, where they are writes that the IOMMU translates?

Kernel: drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, arm_smmu_get_resv_regions();
drivers/iommu/iommufd/io_pagetable.c, iopt_table_enforce_dev_resv_regions();
drivers/irqchip/irq-gic-v3-its.c, its_irq_domain_alloc() and its_msi_teardown().
"""

from errno import EADDRINUSE, EINVAL, ENOSPC

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers import nic_driver
from vfio_lab.uapi.pci_regs import PCI_COMMAND_MASTER
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import shown_config, turn_on
from vfio_lab_pytest.iommus import reserved_regions
from vfio_lab_pytest.verdicts import all_refused, refused

EVENTS = 16  # of an 82576 at the ITS: its ten vectors, rounded up to a power of two


def open_translated(user, function, access):
    """Return a device with an address space, which may send interrupt messages."""
    device = user.open(function, access=access)
    if access == "cdev":
        device.attach_iommufd_pt(device.iommufd.ioas_alloc())
    turn_on(shown_config(device), PCI_COMMAND_MASTER)
    return device


def refuse_interrupts(user, function, irq_fd, times):
    """Ask for MSI-X in a container, where it is refused."""
    device = open_translated(user, function, "group")
    all_refused(ENOSPC, lambda _: device.set_irq_eventfds(MSIX, [irq_fd.fd]), range(times))
    device.close()


@claim("K33")
def test_a_group_reserves_the_doorbells(guest, pf, interrupt_window):
    """A group behind an SMMUv3 reserves one window of addresses, for interrupt messages."""
    assert reserved_regions(guest, pf.group) == [(interrupt_window[0], interrupt_window[-1], "msi")]


@claim("K34")
def test_nothing_is_mapped_where_an_attached_device_rings(user, attached, ioas, interrupt_window):
    """An address space maps no page of the doorbell window, but the page before it."""
    memory = user.allocate(PAGE_BYTES)
    with refused(EINVAL):
        attached.iommufd.ioas_map(ioas, memory, PAGE_BYTES, interrupt_window.start)
    attached.iommufd.ioas_map(ioas, memory, PAGE_BYTES, interrupt_window.start - PAGE_BYTES)


@claim("K34")
def test_a_device_is_not_attached_where_its_doorbells_are_mapped(
    user, bound_device, ioas, interrupt_window
):
    """A mapping in the doorbell window keeps a device from the address space until it is gone."""
    iommufd, doorbells = bound_device.iommufd, interrupt_window.start
    iommufd.ioas_map(ioas, user.allocate(PAGE_BYTES), PAGE_BYTES, doorbells)
    with refused(EADDRINUSE):
        bound_device.attach_iommufd_pt(ioas)
    iommufd.ioas_unmap(ioas, doorbells, PAGE_BYTES)
    bound_device.attach_iommufd_pt(ioas)


@claim("K35")
@pytest.mark.parametrize("access", ["group", "cdev"])
def test_an_interrupt_needs_no_mapping_of_the_users(user, pf, irq_fd, access):
    """A device of a user who has mapped nothing for DMA interrupts: the doorbell is mapped."""
    device = open_translated(user, pf, access)
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    nic_driver(pf, device).interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("K36")
@pytest.mark.topology("virtio-iommu")
def test_interrupts_past_a_virtio_iommu_reach_users_of_an_iommufd_only(user, pf, irq_fd):
    """A container's device has no MSI-X where an IOMMU lets messages pass; an iommufd's has it."""
    device = open_translated(user, pf, "group")
    with refused(ENOSPC):
        device.set_irq_eventfds(MSIX, [irq_fd.fd])
    device.close()
    device = open_translated(user, pf, "cdev")
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    nic_driver(pf, device).interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("K39")
@pytest.mark.topology("virtio-iommu")
def test_each_refused_interrupt_costs_a_device_an_event(user, pf, irq_fd):
    """A device that was refused as many interrupts as it has events has none in an iommufd."""
    refuse_interrupts(user, pf, irq_fd, EVENTS - 1)
    device = open_translated(user, pf, "cdev")
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    device.close()
    refuse_interrupts(user, pf, irq_fd, 1)
    device = open_translated(user, pf, "cdev")
    with refused(ENOSPC):
        device.set_irq_eventfds(MSIX, [irq_fd.fd])


@claim("K39")
@pytest.mark.complains("WARN")
@pytest.mark.topology("virtio-iommu")
def test_lost_events_are_lost_to_the_next_driver_too(guest, user, pf, irq_fd):
    """The kernel warns of lost events when a driver lets go, and the next one lacks them."""
    refuse_interrupts(user, pf, irq_fd, EVENTS)
    pf.unbind()
    assert guest.dmesg("at its_msi_teardown")
    pf.bind("vfio-pci")
    device = open_translated(user, pf, "cdev")
    with refused(ENOSPC):
        device.set_irq_eventfds(MSIX, [irq_fd.fd])
