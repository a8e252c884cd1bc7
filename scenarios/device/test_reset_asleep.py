"""What does a reset do to a device that its user has put into D3hot?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_set_power_state() and vfio_pci_ioctl_reset().
CVE-2022-49219: the state saved on the way to D3hot leaked if something else woke the device. Only
kernels with kmemleak (flavour `debug`) report a leak of that size; every kernel shows what is saved
and restored.
"""

import pytest

from vfio_lab.drivers.igb import STATUS
from vfio_lab.uapi.pci_regs import (
    PCI_BASE_ADDRESS_0,
    PCI_CAP_ID_PM,
    PCI_COMMAND,
    PCI_COMMAND_MEMORY,
    PCI_PM_CTRL,
    PCI_PM_CTRL_STATE_MASK,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.power import (
    AWAKE,
    D0,
    D3HOT,
    power,
)


@pytest.fixture
def power_register(config):
    """Where the device's power state is in its configuration space."""
    return config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL


@claim("F97")
@pytest.mark.parametrize("by", ["its user", "the host"])
def test_a_reset_in_d3_returns_the_device_with_its_configuration(
    function, device, registers, config, hardware, power_register, by
):
    """A reset in D3hot, by the user or the host, returns a device to D0 with its configuration."""
    before = hardware.dword(PCI_BASE_ADDRESS_0), config.word(PCI_COMMAND), registers.read(STATUS)
    assert before[1] & PCI_COMMAND_MEMORY
    config.set_word(power_register, D3HOT)
    assert function.read("power_state") == "D3hot"
    RESETS[by](function, device)
    assert (power(function), config.word(power_register) & PCI_PM_CTRL_STATE_MASK) == (AWAKE, D0)
    config.set_word(power_register, D3HOT)
    config.set_word(power_register, D0)
    after = hardware.dword(PCI_BASE_ADDRESS_0), config.word(PCI_COMMAND), registers.read(STATUS)
    assert after == before


RESETS = {
    "its user": lambda _function, device: device.reset(),
    "the host": lambda function, _device: function.write("reset", 1),
}
