"""In which order do users of several devices that are wanted at once have to let go?

Report: SPDK 1275 (several devices unplugged at once, and a deadlock with munmap). Kernel:
drivers/vfio/vfio_main.c, vfio_unregister_group_dev(); drivers/pci/hotplug/pciehp_pci.c,
pciehp_unconfigure_device(), which takes pci_rescan_remove_lock.
"""

import pytest

from vfio_lab.client.eventfd import Eventfd, wait_any
from vfio_lab.drivers.intel_nic import MTA
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX as BAR
from vfio_lab.uapi.vfio import VFIO_PCI_REQ_IRQ_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hotplug import start_power_off
from vfio_lab_pytest.removal import WAITS_FOR_USER
from vfio_lab_pytest.sriov import on_vfio_pci

pytestmark = pytest.mark.topology("nics")
BAR_BYTES = 0x2_0000
COUNT = 4
ORDERS = {
    "as asked": [0, 1, 2, 3],
    "backwards": [3, 2, 1, 0],
    "from the middle": [2, 0, 3, 1],
}


@pytest.fixture
def nics(guest):
    """Four NICs below ports of their own, on vfio-pci."""
    return [on_vfio_pci(guest, f"nic{number}") for number in range(COUNT)]


@pytest.fixture
def removers(guest):
    """An administrator for each NIC."""
    return [guest.user(f"remover {number}") for number in range(COUNT)]


@pytest.fixture
def in_use(user, nics):
    """The four NICs, open, with BAR 0 mapped and an eventfd for requests; (device, eventfd)."""
    return [mapped(user, user.open(nic)) for nic in nics]


def mapped(user, device):
    """Map a device's BAR 0 and set an eventfd for requests."""
    asked, address = Eventfd(user), device.mmap_region(BAR, BAR_BYTES)
    device.set_irq_eventfds(VFIO_PCI_REQ_IRQ_INDEX, [asked.fd])
    user.peek(address + MTA, 4, width=4)
    return device, asked, address


def let_go(user, used):
    """Unmap and close a device."""
    device, _, address = used
    user.munmap(address, BAR_BYTES)
    device.close()


@claim("J08")
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_devices_that_are_unbound_at_once_are_let_go_in_any_order(
    guest, user, nics, in_use, removers, order
):
    """Unbinding several devices asks for all of them, and their user lets go in any order."""
    waiting = [nic.start_unbind(by) for nic, by in zip(nics, removers, strict=True)]
    assert all(guest.is_inside(each, WAITS_FOR_USER) for each in waiting)
    assert [asked.wait() > 0 for _, asked, _ in in_use] == [True] * COUNT
    _ = [(let_go(user, in_use[one]), waiting[one].wait()) for one in order]
    assert [nic.driver for nic in nics] == [None] * COUNT


@claim("J09")
def test_devices_that_are_removed_at_once_are_asked_for_one_by_one(
    guest, user, nics, in_use, removers
):
    """Removing several devices asks their user for one after the other."""
    waiting = [nic.start_write("remove", 1, by) for nic, by in zip(nics, removers, strict=True)]
    asked = [eventfd for _, eventfd, _ in in_use]
    first = wait_any(asked)
    assert len(first) == 1
    assert guest.is_blocked(waiting[first[0] - 1])
    assert wait_any(asked) == first
    left = [used for used in in_use if used is not in_use[first[0]]]
    let_go(user, in_use[first[0]])
    _ = [let_go(user, used) for used in left]
    _ = [each.wait() for each in waiting]
    assert not any(nic.present for nic in nics)


@claim("J11")
@pytest.mark.pristine("it unplugs a device for good")
def test_devices_whose_slots_lose_power_at_once_are_asked_for_one_by_one(
    user, nics, in_use, removers
):
    """Turning off several slots at once asks for one device after the other, and all end."""
    waiting = [start_power_off(nic, by) for nic, by in zip(nics, removers, strict=True)]
    asked = [eventfd for _, eventfd, _ in in_use]
    first = wait_any(asked)
    assert len(first) == 1
    _ = [let_go(user, used) for used in in_use]
    _ = [each.wait() for each in waiting]
    assert not any(nic.present for nic in nics)
