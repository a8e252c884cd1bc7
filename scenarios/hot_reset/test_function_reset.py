"""How is one function reset, and a function that cannot be reset alone?

Thread: mainline. Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_enable(),
vfio_pci_core_disable(), vfio_pci_ioctl_reset() and vfio_pci_dev_set_try_reset();
drivers/vfio/pci/vfio_pci_config.c, vfio_exp_config_write(); drivers/pci/pci.c,
pci_try_reset_function().
"""

from errno import EINVAL, ENOTTY

import pytest

from vfio_lab.uapi.vfio import VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import shown_config
from vfio_lab_pytest.hot_reset import (
    CANARY,
    WIPED,
    canaries,
    with_canary,
)
from vfio_lab_pytest.verdicts import refused

EXPRESS = 0x10  # capability ID, offset of Device Control, and its FLR bit
DEVICE_CONTROL = 8
FUNCTION_LEVEL_RESET = 1 << 15
RESETTABLE = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET
COMPLAINT = "unlocked secondary bus reset"

nic_and_bridge = pytest.mark.topology("nic-bridge")
bridge = pytest.mark.topology("bridge")
switch = pytest.mark.topology("switch")


@claim("C33")
@nic_and_bridge
def test_a_device_reset_resets_one_function(held, held_sibling):
    """VFIO_DEVICE_RESET resets one function and none of the others."""
    held_sibling.reset()
    assert canaries(held, held_sibling) == [CANARY, WIPED]
    with_canary(held_sibling)
    held.reset()
    assert canaries(held_sibling) == [CANARY]


@claim("C33")
@bridge
def test_a_function_without_a_reset_method_refuses_a_device_reset(held, held_sibling):
    """A function without a reset method fails VFIO_DEVICE_RESET but can be hot-reset."""
    assert held_sibling.get_info().flags == VFIO_DEVICE_FLAGS_PCI
    with refused(EINVAL):
        held_sibling.reset()
    assert canaries(held, held_sibling) == [CANARY, CANARY]
    held_sibling.hot_reset([held.group])
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("C33")
def test_a_reset_method_added_after_the_open_has_no_effect(pf_user, pf):
    """A reset method added after the open does not change the answer of VFIO_DEVICE_RESET."""
    pf.write("reset_method", "")
    device = with_canary(pf_user.open(pf))
    assert device.get_info().flags == VFIO_DEVICE_FLAGS_PCI
    pf.write("reset_method", "default")
    with refused(EINVAL):
        device.reset()
    assert canaries(device) == [CANARY]
    device.close()
    device = with_canary(pf_user.open(pf))
    assert device.get_info().flags == RESETTABLE
    device.reset()
    assert canaries(device) == [WIPED]


@claim("C33")
def test_a_reset_method_removed_after_the_open_is_enotty(pf, marked_pf):
    """VFIO_DEVICE_RESET fails with ENOTTY if the method was removed after the open."""
    pf.write("reset_method", "")
    assert marked_pf.get_info().flags == RESETTABLE
    with refused(ENOTTY):
        marked_pf.reset()
    assert canaries(marked_pf) == [CANARY]


@claim("C34")
@bridge
def test_the_last_close_resets_the_bus(user, nic, sibling, held, held_sibling):
    """The last close on a bus resets all functions on it, and an earlier close resets none."""
    group = held.group.dup()
    user.close(held.fd)
    again = group.get_device_fd(str(nic))
    assert canaries(again, held_sibling) == [CANARY, CANARY]
    again.close()
    held_sibling.close()
    both = [group.get_device_fd(str(one)) for one in (nic, sibling)]
    assert canaries(*both) == [WIPED, WIPED]


@claim("C34")
@bridge
def test_the_last_close_does_not_reset_a_bus_with_other_drivers(user, nic, neighbour, held):
    """A close does not reset the bus while another device on it is not bound to vfio."""
    held.close()
    again = user.open(nic)
    assert canaries(again) == [CANARY]
    neighbour.bind("vfio-pci")
    again.close()
    assert canaries(user.open(nic)) == [WIPED]


@claim("C36")
def test_the_flr_bit_resets_the_function(marked_pf):
    """Setting the FLR bit resets the function and keeps its command register."""
    config = shown_config(marked_pf)
    control = config.capability(EXPRESS) + DEVICE_CONTROL
    before, command = config.word(control), config.word(4)
    config.set_word(control, before | FUNCTION_LEVEL_RESET)
    assert canaries(marked_pf) == [WIPED]
    assert (config.word(control), config.word(4)) == (before, command)


@claim("C36")
@switch
def test_the_flr_bit_has_no_effect_without_flr(user, nic):
    """Setting the FLR bit of a function without FLR has no effect, and the bit reads as 0."""
    nic.write("reset_method", "pm")
    device = with_canary(user.open(nic))
    nic.write("reset_method", "bus")
    config = shown_config(device)
    control = config.capability(EXPRESS) + DEVICE_CONTROL
    before = config.word(control)
    config.set_word(control, before | FUNCTION_LEVEL_RESET)
    assert (config.word(control), canaries(device)) == (before, [CANARY])
    device.reset()
    assert canaries(device) == [WIPED]


@claim("C44")
@switch
@pytest.mark.parametrize(("method", "left"), [("bus", WIPED), ("pm", CANARY)], ids=["bus", "pm"])
def test_a_close_that_resets_the_bus_locks_the_bridge(guest, user, nic, method, left):
    """The kernel does not report an unlocked bridge for a close that resets the bus."""
    nic.write("reset_method", "pm")
    device = with_canary(user.open(nic))
    nic.write("reset_method", method)
    device.close()
    nic.write("reset_method", "pm")
    assert canaries(user.open(nic)) == [left]
    assert not guest.dmesg(COMPLAINT)


@claim("C45")
@switch
@pytest.mark.pristine("the kernel reports it once in a boot")
def test_an_open_that_resets_the_bus_does_not_lock_the_bridge(guest, user, nic):
    """The kernel reports an unlocked bridge once for an open that resets the bus."""
    nic.write("reset_method", "bus")
    assert user.open(nic)
    assert len(guest.dmesg(COMPLAINT, level="warn")) == 1
