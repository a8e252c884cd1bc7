"""Do groups, reserved addresses and interrupts work with every IOMMU?

That a device reaches what is mapped for it and nothing else is shown for every IOMMU in
scenarios/device/test_loopback.py and test_iommufd_mapping.py. Kernel: drivers/iommu/iommu.c;
drivers/iommu/intel/iommu.c; drivers/iommu/amd/iommu.c; drivers/iommu/virtio-iommu.c.
"""

from errno import EINVAL, EPERM

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.edu import EduCopier
from vfio_lab.drivers.igb import SOURCE, TARGET, UNTOUCHED
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import allow_unsafe_interrupts, sharing
from vfio_lab_pytest.iommus import (
    IOMMUS,
    domain_type,
    needs_translated_messages,
    on_every_iommu,
    on_every_translating_iommu,
    reported_faults,
    reserved_regions,
)
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.verdicts import outcome, refused

MESSAGE = bytes(range(64))
NOTHING = UNTOUCHED * len(MESSAGE)
REMAPPING = pytest.mark.parametrize("topology", ["igb", "scalable"], indirect=True)
LAZY = pytest.mark.needs(arch="x86_64", because="kernels of others are built to unmap strictly")
STRICT = pytest.mark.needs(arch="aarch64", because="kernels of others are built to unmap lazily")
INTERRUPTING = [
    pytest.param(name, marks=needs_translated_messages) if name == "virtio-iommu" else name
    for name in IOMMUS
]
NOT_REMAPPING = pytest.mark.parametrize("topology", ["no-remapping", "amd-iommu"], indirect=True)


@claim("K13")
@on_every_iommu
def test_a_pf_and_its_vfs_have_groups_of_their_own(guest, pf, vfs):
    """A PF and each of its VFs is in a group of its own behind every IOMMU."""
    assert sharing(guest) == []
    assert len({pf.group, *(vf.group for vf in vfs)}) == 1 + len(vfs)


@claim("K14")
@on_every_iommu
def test_reserved_addresses_are_not_mapped(guest, pf, mappings, user, interrupt_window):
    """Every IOMMU reserves the addresses of interrupt messages; mapping them fails with EINVAL."""
    window = interrupt_window[0]
    assert window in [first for first, _, _ in reserved_regions(guest, pf.group)]
    memory = user.allocate(PAGE_BYTES)
    with refused(EINVAL):
        mappings.map_dma(memory, window, PAGE_BYTES)
    assert not any(first <= window <= last for first, last in mappings.iova_ranges())
    mappings.map_dma(memory, window - PAGE_BYTES, PAGE_BYTES)


@claim("K15")
@pytest.mark.parametrize("topology", INTERRUPTING, indirect=True)
@pytest.mark.usefixtures("mastering")
def test_an_interrupt_arrives(device, registers, irq_fd):
    """An interrupt of a device reaches its user behind every IOMMU."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("K16")
@REMAPPING
def test_who_remaps_interrupts_needs_no_permission(guest, user, pf):
    """A device behind an IOMMU that remaps interrupts opens without allow_unsafe_interrupts."""
    allow_unsafe_interrupts(guest, "vfio_iommu_type1", allowed=False)
    assert user.open(pf).get_info().num_regions > 0


@claim("K17")
@NOT_REMAPPING
def test_who_remaps_no_interrupts_needs_permission(guest, user, pf):
    """A device behind an IOMMU that remaps no interrupts opens if that is allowed: EPERM."""
    allow_unsafe_interrupts(guest, "vfio_iommu_type1", allowed=False)
    with refused(EPERM):
        user.open(pf)
    allow_unsafe_interrupts(guest, "vfio_iommu_type1", allowed=True)
    assert user.open(pf).get_info().num_regions > 0


@claim("K18")
@pytest.mark.parametrize(
    ("topology", "kind"),
    [
        pytest.param("igb", "DMA-FQ", marks=LAZY),
        pytest.param("igb", "DMA", marks=STRICT),
        ("intel-pt", "identity"),
        ("intel-strict", "DMA"),
    ],
    indirect=["topology"],
)
def test_boot_parameters_choose_the_default_domain(guest, kind):
    """iommu=pt makes default domains identity, iommu.strict=1 DMA; otherwise the kernel does."""
    assert domain_type(guest, guest.function("pf0").group) == kind


@claim("K19")
@on_every_translating_iommu
def test_a_device_that_was_given_back_reaches_nothing_of_its_user(guest, copier, mappings):
    """A device no longer reaches its user's memory once its group has left the container."""
    assert copier.copy(MESSAGE) == MESSAGE
    source, target = copier.source, copier.target
    mappings.unmap_dma(source.iova, PAGE_BYTES)
    mappings.unmap_dma(target.iova, PAGE_BYTES)
    assert copier.copy(MESSAGE) == NOTHING
    assert reported_faults(guest, source.iova)


@claim("K20")
@pytest.mark.topology("qemu-devices")
def test_the_simplest_device_reaches_what_is_mapped(guest, user):
    """QEMU's edu device reads and writes mapped memory, and no other."""
    device = user.open(on_vfio_pci(guest, "edu0"))
    copier = EduCopier(device)
    device.container.map_dma(copier.source.address, SOURCE, PAGE_BYTES)
    device.container.map_dma(copier.target.address, TARGET, PAGE_BYTES)
    copier.start()
    assert copier.copy(MESSAGE) == MESSAGE
    device.container.unmap_dma(TARGET, PAGE_BYTES)
    assert copier.copy(MESSAGE[::-1]) == NOTHING


@claim("K21")
@pytest.mark.topology("qemu-devices")
def test_a_device_without_express_is_mapped_whole(guest, user):
    """A memory BAR of QEMU's test device is mapped whole; a page more fails with EINVAL."""
    device = user.open(on_vfio_pci(guest, "test0"))
    size = device.get_region_info(2).size
    assert user.touch(device.mmap_region(2, size) + size - PAGE_BYTES) is None
    assert outcome(lambda: device.mmap_region(2, size + PAGE_BYTES)) == EINVAL
