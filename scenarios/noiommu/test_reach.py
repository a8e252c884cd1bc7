"""Which memory does a device without an IOMMU reach, and who else permits that?

Thread: 2019-noiommu. No-IOMMU mode "provides absolutely no isolation"; uio "is pretty coy about
this, no kernel tainting, no user capability tests, no scary dmesg". Kernel:
drivers/uio/uio_pci_generic.c, probe() and open(). An 82576 is given the physical address of
memory that belongs to a bystander, a process without a device, and sends itself a frame.
"""

from errno import EPERM

import pytest

from vfio_lab.client.memory import PAGE_BYTES, physical_address
from vfio_lab.client.uio import UioDevice
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.iommus import reported_faults
from vfio_lab_pytest.noiommu import TAINT_USER, aimed, allow_noiommu
from vfio_lab_pytest.verdicts import refused

alone = pytest.mark.topology("noiommu")
EVERY_CAPABILITY = range(41)
OURS, FOREIGN = b"\x5a" * 64, bytes(range(64))


class Bystander:
    """A process and a page of its memory, which holds OURS."""

    def __init__(self, user):
        self.user = user
        self.page = user.allocate(PAGE_BYTES)
        user.poke(self.page, OURS)

    @property
    def at(self):
        """The physical address of the page."""
        return physical_address(self.user, self.page)

    @property
    def memory(self):
        """What the page holds now."""
        return self.user.peek(self.page, len(OURS))


@pytest.fixture
def observer(guest):
    """One who has nothing to do with the device."""
    return Bystander(guest.user("observer"))


@pytest.fixture
def uio_user(guest):
    """A user with no capability at all."""
    return guest.user("uio_user", drop=EVERY_CAPABILITY)


@pytest.fixture
def uio_pf(guest):
    """The PF on uio_pci_generic."""
    guest.load("uio_pci_generic")
    function = guest.function("pf0")
    function.bind("uio_pci_generic")
    return function


@claim("D34")
@alone
@pytest.mark.usefixtures("unsafe")
def test_a_noiommu_device_writes_to_any_memory(root, pf_user, pf, observer):
    """A no-IOMMU device writes to any memory that its user tells it to."""
    reaching = aimed(pf_user.open(pf), observer.at, root)
    reaching.start()
    reaching.master(on=False)
    assert observer.memory == OURS
    reaching.master(on=True)
    reaching.copy(FOREIGN)
    assert observer.memory == FOREIGN


@claim("D34")
def test_an_iommu_protects_memory_that_is_not_mapped(guest, root, pf_user, pf, observer):
    """An IOMMU prevents a device from writing to memory that is not mapped for it."""
    held = pf_user.open(pf)
    reaching = aimed(held, observer.at, root)
    rings, source = reaching.rings, reaching.source
    held.container.map_dma(rings.address, rings.iova, PAGE_BYTES)
    held.container.map_dma(source.address, source.iova, PAGE_BYTES)
    reaching.start()
    reaching.copy(FOREIGN)
    assert observer.memory == OURS
    assert reported_faults(guest, observer.at)


@claim("D35")
@alone
def test_uio_neither_taints_nor_warns_nor_needs_a_capability(taints, guest, uio_user, uio_pf):
    """uio_pci_generic does not taint, warn or require a capability, and vfio-pci does all three."""
    UioDevice(uio_user, uio_pf).close()
    assert guest.taints() == taints
    assert not guest.dmesg(f"uio_pci_generic {uio_pf}", level="warn")
    allow_noiommu(guest)
    uio_pf.bind("vfio-pci")
    assert guest.taints() == taints | {TAINT_USER}
    with refused(EPERM):
        uio_user.open_group(uio_pf)


@claim("D35")
@alone
def test_a_device_on_uio_writes_to_any_memory(taints, guest, uio_user, uio_pf, observer):
    """A device on uio_pci_generic writes to any memory that its user tells it to."""
    reaching = aimed(UioDevice(uio_user, uio_pf), observer.at, guest.root)
    reaching.start()
    reaching.copy(FOREIGN)
    assert observer.memory == FOREIGN
    assert guest.taints() == taints
