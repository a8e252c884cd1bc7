"""Does a hot reset cover a slot or a bus, and what is in a slot?

Threads: 2023-hot-reset-info and 2013-groups. The scope decides which groups a reset requires.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_for_each_slot_or_bus(); drivers/pci/pci.c,
pci_probe_reset_slot() and pci_dev_reset_slot_function(); drivers/pci/hotplug/pciehp_core.c,
init_slot().
"""

from errno import EINVAL

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hot_reset import (
    CANARY,
    WIPED,
    canaries,
    listed,
)
from vfio_lab_pytest.verdicts import refused

SLOTS = "/sys/bus/pci/slots"

in_slot = pytest.mark.topology("igb")
on_bus = pytest.mark.topology("igb-bus")
nvme = pytest.mark.topology("nvme-sriov")


@claim("C02")
@in_slot
def test_with_pciehp_a_hot_reset_covers_the_slot(root, pf, marked_pf):
    """Below a root port with pciehp, a hot reset covers the slot."""
    (slot,) = root.listdir(SLOTS)
    assert str(pf).startswith(root.read_file(f"{SLOTS}/{slot}/address"))
    assert marked_pf.hot_reset_info().devices == listed(pf)
    marked_pf.hot_reset([marked_pf.group])
    assert canaries(marked_pf) == [WIPED]


@claim("C02")
@on_bus
def test_without_hotplug_a_hot_reset_covers_the_bus(root, pf, marked_pf):
    """Below a root port without hotplug, a hot reset covers the bus."""
    assert root.listdir(SLOTS) == []
    assert marked_pf.hot_reset_info().devices == listed(pf)
    marked_pf.hot_reset([marked_pf.group])
    assert canaries(marked_pf) == [WIPED]


@claim("C03")
@in_slot
@pytest.mark.usefixtures("vfs")
def test_the_slot_of_a_pf_lacks_vfs_with_another_device_number(pf, marked_pf):
    """A slot that is device 0 does not cover an igb's VFs, which are device 16."""
    assert marked_pf.hot_reset_info().devices == listed(pf)


@claim("C04")
@in_slot
def test_the_slot_of_a_pf_is_the_whole_bus(pf, vfs, marked_pf):
    """A slot that is the whole bus covers VFs with any device number."""
    assert marked_pf.hot_reset_info().devices == listed(pf, *vfs)


@claim("C46")
@nvme
def test_the_slot_of_a_pf_has_the_vfs_that_share_its_device_number(pf, vfs, marked_pf):
    """A slot covers an NVMe PF's VFs, which share its device number."""
    assert marked_pf.hot_reset_info().devices == listed(pf, *vfs)
    assert {vf.read("reset_method") for vf in vfs} == {"flr bus"}
    with refused(EINVAL):
        marked_pf.hot_reset([marked_pf.group])
    assert canaries(marked_pf) == [CANARY]


@claim("C05", "C01")
@on_bus
def test_a_bus_reset_lists_vfs_with_and_without_a_driver(guest, pf, vfs, marked_pf):
    """A bus reset lists VFs on a host driver and unbound VFs."""
    guest.load("igbvf")
    vfs[0].bind("igbvf")
    vfs[1].unbind()
    assert marked_pf.hot_reset_info().devices == listed(pf, *vfs)


@claim("C35")
@in_slot
def test_a_vf_may_be_reset_by_resetting_its_slot(marked_pf, vf):
    """Resetting a VF by the method bus resets its slot, and its PF with it."""
    assert vf.read("reset_method") == "flr bus"
    vf.write("reset_method", "bus")
    vf.write("reset", 1)
    assert canaries(marked_pf) != [CANARY]


@claim("C02")
@on_bus
def test_a_vf_on_a_shared_bus_has_no_bus_reset(marked_pf, vf):
    """A VF on a bus without a slot does not have the reset method bus."""
    assert vf.read("reset_method") == "flr"
    with refused(EINVAL):
        vf.write("reset_method", "bus")
    assert canaries(marked_pf) == [CANARY]


@claim("C37")
@pytest.mark.topology("bridge")
def test_two_devices_behind_a_bridge_are_reset_together(guest, nic, sibling, held, held_sibling):
    """Two devices behind a PCI bridge share group and reset; the bridge is only in the group."""
    bridge = guest.function("bridge0")
    assert nic.group == sibling.group == bridge.group
    assert held.hot_reset_info().devices == listed(nic, sibling)
    held.hot_reset([held.group])
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("C38", "C20")
@pytest.mark.topology("nic-bridge")
@pytest.mark.pristine("a rescan gives the bridge that it removes other windows")
def test_a_bridge_among_the_functions_prevents_the_hot_reset(guest, nic, sibling, held):
    """A bridge among the affected functions is listed and prevents the hot reset."""
    bridge = guest.function("bridge0")
    with refused(EINVAL):
        bridge.bind("vfio-pci")
    assert held.hot_reset_info().devices == listed(nic, bridge, sibling)
    with refused(EINVAL):
        held.hot_reset([held.group])
    assert canaries(held) == [CANARY]
    bridge.write("remove", 1)
    held.hot_reset([held.group])
    assert (held.hot_reset_info().devices, canaries(held)) == (listed(nic), [WIPED])


@claim("C38", "C02")
@pytest.mark.topology("nic-bridge")
def test_below_a_bridge_a_hot_reset_covers_the_secondary_bus(sibling, held, held_sibling):
    """A hot reset below a bridge covers the bridge's secondary bus only."""
    assert held_sibling.hot_reset_info().devices == listed(sibling)
    held_sibling.hot_reset([held.group])
    assert canaries(held, held_sibling) == [CANARY, WIPED]
