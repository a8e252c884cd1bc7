"""What does a reset cover: a slot or a bus, and what is in a slot?

Thread: 2023-hot-reset-info and 2013-groups; it decides whose groups a reset takes.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_for_each_slot_or_bus(); drivers/pci/pci.c,
pci_probe_reset_slot() and pci_dev_reset_slot_function(); drivers/pci/hotplug/pciehp_core.c,
init_slot().
"""

from errno import EINVAL

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hot_reset import (
    MARK,
    WIPED,
    listed,
    marks,
)
from vfio_lab_pytest.verdicts import refused

SLOTS = "/sys/bus/pci/slots"

in_slot = pytest.mark.topology("igb")
on_bus = pytest.mark.topology("igb-bus")
nvme = pytest.mark.topology("nvme-sriov")


@claim("C02")
@in_slot
def test_pciehp_makes_a_reset_one_of_its_slot(root, pf, marked_pf):
    """The root port has a slot, and what is in it is reset together."""
    (slot,) = root.listdir(SLOTS)
    assert str(pf).startswith(root.read_file(f"{SLOTS}/{slot}/address"))
    assert marked_pf.hot_reset_info().devices == listed(pf)
    marked_pf.hot_reset([marked_pf.group])
    assert marks(marked_pf) == [WIPED]


@claim("C02")
@on_bus
def test_without_hotplug_a_reset_is_one_of_the_bus(root, pf, marked_pf):
    """No slot, and a reset all the same."""
    assert root.listdir(SLOTS) == []
    assert marked_pf.hot_reset_info().devices == listed(pf)
    marked_pf.hot_reset([marked_pf.group])
    assert marks(marked_pf) == [WIPED]


@claim("C03")
@in_slot
@pytest.mark.usefixtures("vfs")
def test_the_slot_of_a_pf_lacks_vfs_with_another_device_number(pf, marked_pf):
    """The slot is device 0 of its bus, and an igb's VFs are device 16."""
    assert marked_pf.hot_reset_info().devices == listed(pf)


@claim("C04")
@in_slot
def test_the_slot_of_a_pf_is_the_whole_bus(pf, vfs, marked_pf):
    """VFs are in it, whatever their device number."""
    assert marked_pf.hot_reset_info().devices == listed(pf, *vfs)


@claim("C46")
@nvme
def test_the_slot_of_a_pf_has_the_vfs_that_share_its_device_number(pf, vfs, marked_pf):
    """An NVMe's VFs follow it function by function: in its slot by either reading."""
    assert marked_pf.hot_reset_info().devices == listed(pf, *vfs)
    assert {vf.read("reset_method") for vf in vfs} == {"flr bus"}
    with refused(EINVAL):
        marked_pf.hot_reset([marked_pf.group])
    assert marks(marked_pf) == [MARK]


@claim("C05", "C01")
@on_bus
def test_a_bus_reset_hits_the_vfs_whoever_drives_them(guest, pf, vfs, marked_pf):
    """A VF on the host's driver and one on none are listed like others."""
    guest.load("igbvf")
    vfs[0].bind("igbvf")
    vfs[1].unbind()
    assert marked_pf.hot_reset_info().devices == listed(pf, *vfs)


@claim("C35")
@in_slot
def test_a_vf_may_be_reset_by_resetting_its_slot(marked_pf, vf):
    """Asked to reset itself by the method called bus, a VF resets its PF."""
    assert vf.read("reset_method") == "flr bus"
    vf.write("reset_method", "bus")
    vf.write("reset", 1)
    assert marks(marked_pf) == [WIPED]


@claim("C02")
@on_bus
def test_a_vf_on_a_shared_bus_has_no_bus_reset(marked_pf, vf):
    """Where there is no slot the bus counts, and a VF has its bus never for itself."""
    assert vf.read("reset_method") == "flr"
    with refused(EINVAL):
        vf.write("reset_method", "bus")
    assert marks(marked_pf) == [MARK]


@claim("C37")
@pytest.mark.topology("bridge")
def test_two_devices_behind_a_bridge_are_reset_together(guest, nic, sibling, held, held_sibling):
    """They share the group and the bus; the bridge above them is in the group alone."""
    bridge = guest.function("bridge0")
    assert nic.group == sibling.group == bridge.group
    assert held.hot_reset_info().devices == listed(nic, sibling)
    held.hot_reset([held.group])
    assert marks(held, held_sibling) == [WIPED, WIPED]


@claim("C38", "C20")
@pytest.mark.topology("nic-bridge")
def test_a_bridge_among_the_functions_prevents_the_reset(guest, nic, sibling, held):
    """INFO lists it and what is below it; EXECUTE wants it on vfio-pci, which takes no bridge."""
    bridge = guest.function("bridge0")
    with refused(EINVAL):
        bridge.bind("vfio-pci")
    assert held.hot_reset_info().devices == listed(nic, bridge, sibling)
    with refused(EINVAL):
        held.hot_reset([held.group])
    assert marks(held) == [MARK]
    bridge.write("remove", 1)
    held.hot_reset([held.group])
    assert (held.hot_reset_info().devices, marks(held)) == (listed(nic), [WIPED])


@claim("C38", "C02")
@pytest.mark.topology("nic-bridge")
def test_below_the_bridge_a_reset_is_one_of_that_bus(sibling, held, held_sibling):
    """The bridge's own secondary bus is reset, and nothing beside the bridge."""
    assert held_sibling.hot_reset_info().devices == listed(sibling)
    held_sibling.hot_reset([held.group])
    assert marks(held, held_sibling) == [MARK, WIPED]
