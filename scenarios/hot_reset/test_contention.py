"""What does a hot reset do while somebody else accesses the device?

Thread: mainline. Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_dev_set_hot_reset() and
vfio_pci_zap_bars(); drivers/pci/pci.c, pci_slot_trylock() and pci_bus_trylock().
"""

from errno import EAGAIN, EBUSY

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.intel_nic import RDBAL
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.held import TWO_CPUS, WAITS_FOR_DEVICE
from vfio_lab_pytest.hot_reset import CANARY, WIPED, canaries
from vfio_lab_pytest.removal import REQUEST_WITHIN_S, request_channel
from vfio_lab_pytest.verdicts import refused

RING_PAGE, RING_OFFSET = RDBAL & ~(PAGE_BYTES - 1), RDBAL & (PAGE_BYTES - 1)


@pytest.fixture
def mapped(held, held_sibling):
    """Addresses at which the user's child sees the marks of both functions."""
    bars = [
        one.mmap_region(VFIO_PCI_BAR0_REGION_INDEX, PAGE_BYTES, RING_PAGE)
        for one in (held, held_sibling)
    ]
    return [bar + RING_OFFSET for bar in bars]


@claim("C22")
@pytest.mark.topology(TWO_CPUS)
def test_a_hot_reset_fails_during_another_reset(guest, pf_user, marked_pf):
    """A hot reset fails with EBUSY while another reset of the device runs."""
    child = pf_user.fork()
    with guest.held(child, WAITS_FOR_DEVICE) as held:
        resetting = marked_pf.inherited_by(child).start_reset()
        held.wait()
        with refused(EBUSY):
            marked_pf.hot_reset([marked_pf.group])
    resetting.wait()
    marked_pf.hot_reset([marked_pf.group])
    assert canaries(marked_pf) == [WIPED]


@claim("C22")
@pytest.mark.parametrize("topology", ["igb", "igb-bus"], indirect=True)
def test_a_hot_reset_fails_during_an_unbind(pf_user, pf, marked_pf, remover):
    """A hot reset fails with EAGAIN while the device is being unbound, and resets nothing."""
    request = request_channel(pf_user, marked_pf)
    unbinding = pf.start_unbind(by=remover)
    assert pf_user.await_event(request, REQUEST_WITHIN_S) == 1
    with refused(EAGAIN):
        marked_pf.hot_reset([marked_pf.group])
    assert canaries(marked_pf) == [CANARY]
    marked_pf.close()
    unbinding.wait()
    assert pf.driver is None


@claim("C23")
@pytest.mark.topology("multifunction")
@pytest.mark.parametrize("which", [0, 1], ids=["asked", "sibling"])
def test_a_write_to_a_mapped_bar_waits_for_the_end_of_a_hot_reset(
    guest, user, held, held_sibling, mapped, which
):
    """A write to a mapped BAR during a hot reset waits until the reset is done."""
    child = user.fork()
    assert child.peek(mapped[which], len(CANARY), width=4) == CANARY
    resetting = held.start_hot_reset([held.group])
    assert guest.is_blocked(resetting)
    child.poke(mapped[which], CANARY, width=4)
    resetting.wait()
    assert canaries(held, held_sibling)[which] == CANARY
    assert canaries(held, held_sibling)[1 - which] == WIPED
