"""When is a device in low power, and what wakes it?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_pm_*() and vfio_pci_core_runtime_*();
drivers/vfio/vfio_main.c, vfio_device_fops_unl_ioctl().
"""

from errno import EBADF, EINVAL
from signal import SIGBUS

import pytest

from vfio_lab.client.channel import UserGone
from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import STATUS
from vfio_lab.uapi.pci_regs import PCI_VENDOR_ID
from vfio_lab.uapi.vfio import VFIO_DEVICE_FEATURE_GET as GET
from vfio_lab.uapi.vfio import VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY as ENTRY
from vfio_lab.uapi.vfio import VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP as ENTRY_WITH_WAKEUP
from vfio_lab.uapi.vfio import VFIO_DEVICE_FEATURE_LOW_POWER_EXIT as EXIT
from vfio_lab.uapi.vfio import VFIO_DEVICE_FEATURE_PROBE as PROBE
from vfio_lab.uapi.vfio import VFIO_DEVICE_FEATURE_SET as SET
from vfio_lab.uapi.vfio import VFIO_PCI_INTX_IRQ_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.power import AWAKE, falls_asleep, power
from vfio_lab_pytest.verdicts import all_refused, refused

DISABLE_IDLE_D3 = "/sys/module/vfio_pci/parameters/disable_idle_d3"
INTEL = 0x8086
NO_WAKEUP = {
    "no descriptor": {"data": b"\xff" * 4 + bytes(4)},
    "no eventfd": {"data": bytes(8)},
    "half an argument": {"data": bytes(4)},
    "to be got": {"flags": GET, "data": bytes(8)},
}


@claim("F92")
def test_a_closed_device_is_suspended(user, function):
    """A device on vfio-pci is suspended while it is closed."""
    assert falls_asleep(function)
    device = user.open(function)
    assert power(function) == AWAKE
    device.close()
    assert falls_asleep(function)
    function.unbind()
    assert function.read("power/control") == "on"


@claim("F40")
def test_disable_idle_d3_keeps_closed_devices_awake(guest, user, function):
    """A change of disable_idle_d3 applies to devices that vfio-pci binds to afterwards."""
    guest.root.write_file(DISABLE_IDLE_D3, "Y")
    user.open(function).close()
    assert falls_asleep(function)
    function.bind("vfio-pci")
    user.open(function).close()
    assert power(function) == AWAKE
    guest.root.write_file(DISABLE_IDLE_D3, "N")
    user.open(function).close()
    assert power(function) == AWAKE
    function.bind("vfio-pci")
    assert falls_asleep(function)


@claim("F37")
def test_a_user_enters_and_exits_low_power(function, device):
    """A second low-power entry fails with EINVAL, and a second exit succeeds."""
    device.enter_low_power()
    assert falls_asleep(function)
    with refused(EINVAL):
        device.enter_low_power()
    assert falls_asleep(function)
    device.exit_low_power()
    device.exit_low_power()
    assert power(function) == AWAKE
    device.enter_low_power()
    assert falls_asleep(function)


@claim("F37")
def test_a_probe_does_not_enter_low_power(function, device):
    """PROBE of the low-power features leaves the device awake."""
    device.probe_feature(ENTRY, SET)
    device.probe_feature(ENTRY_WITH_WAKEUP, SET)
    device.probe_feature(EXIT, SET)
    ways = {name: {"index": index} for name, index in (("in", ENTRY), ("out", EXIT))}
    all_refused(EINVAL, lambda index: device.feature(index, GET), ways)
    all_refused(EINVAL, lambda index: device.feature(index, GET | PROBE), ways)
    assert power(function) == AWAKE


@claim("F38")
def test_a_device_in_low_power_wakes_for_a_call_and_suspends_again(
    function, device, registers, config
):
    """A device in low power wakes for an ioctl, a read or a write and then suspends again."""
    status = registers.read(STATUS)
    device.enter_low_power()
    assert falls_asleep(function)
    assert config.word(PCI_VENDOR_ID) == INTEL
    assert falls_asleep(function)
    assert registers.read(STATUS) == status
    assert falls_asleep(function)
    assert device.get_info().num_regions > 0
    assert falls_asleep(function)


@claim("F38")
def test_a_mapped_bar_raises_sigbus_in_low_power(user, function, device):
    """Access to a mapped BAR raises SIGBUS while the device is in low power."""
    bar = device.mmap_region(0, PAGE_BYTES)
    status = user.peek(bar + STATUS, 4, 4)
    device.enter_low_power()
    device.exit_low_power()
    assert user.peek(bar + STATUS, 4, 4) == status
    device.enter_low_power()
    with pytest.raises(UserGone) as gone:
        user.peek(bar + STATUS, 4, 4)
    assert gone.value.exit == -SIGBUS
    assert falls_asleep(function)


@claim("F39")
@pytest.mark.parametrize("by", ["its user", "its user's wish", "the host"])
def test_a_device_that_wakes_signals_its_eventfd_once(function, device, irq_fd, by):
    """A device in low power signals its eventfd once when something wakes it, and stays awake."""
    device.enter_low_power(wakeup=irq_fd.fd)
    assert falls_asleep(function)
    assert irq_fd.count() == 0
    WAKERS[by](function, device)
    assert irq_fd.wait() == 1
    assert device.get_info().num_regions > 0
    assert (power(function), irq_fd.count()) == (AWAKE, 0)
    device.enter_low_power()
    assert irq_fd.count() == 0


WAKERS = {
    "its user": lambda _function, device: device.get_info(),
    "its user's wish": lambda _function, device: device.exit_low_power(),
    "the host": lambda function, _device: function.write("power/control", "on"),
}


@claim("F39")
def test_a_low_power_entry_with_an_invalid_eventfd_fails(function, device, irq_fd):
    """A low-power entry with an invalid eventfd fails and leaves the device awake."""
    ways = {name: {"flags": SET, **way} for name, way in NO_WAKEUP.items()}
    all_refused(EINVAL, lambda **way: device.feature(ENTRY_WITH_WAKEUP, **way), ways)
    with refused(EBADF):
        device.enter_low_power(wakeup=999)
    assert power(function) == AWAKE
    device.enter_low_power(wakeup=irq_fd.fd)
    assert falls_asleep(function)
    device.enter_low_power(wakeup=irq_fd.fd)
    assert (irq_fd.wait(), falls_asleep(function)) == (1, True)


@claim("F39")
def test_the_wakeup_eventfd_may_be_descriptor_0(user, function, device, irq_fd):
    """The wake-up eventfd may be descriptor 0."""
    user.close(0)
    assert user.dup(irq_fd.fd) == 0
    device.enter_low_power(wakeup=0)
    assert falls_asleep(function)
    assert device.get_info().num_regions > 0
    assert irq_fd.wait() == 1


@claim("F93")
def test_a_device_closed_in_low_power_is_awake_at_the_next_open(user, function, device, irq_fd):
    """A device closed in low power does not signal its eventfd and is awake at the next open."""
    device.enter_low_power(wakeup=irq_fd.fd)
    assert falls_asleep(function)
    device.close()
    assert falls_asleep(function)
    assert irq_fd.count() == 0
    again = user.open(function)
    assert power(function) == AWAKE
    again.enter_low_power()
    assert falls_asleep(function)


@claim("F94")
@pytest.mark.topology("igb-pair")
def test_intx_is_delivered_after_low_power(nic, nic_device, nic_registers, irq_fd):
    """INTx is delivered again after low power."""
    nic_device.set_irq_eventfds(VFIO_PCI_INTX_IRQ_INDEX, [irq_fd.fd])
    nic_device.enter_low_power()
    assert falls_asleep(nic)
    nic_device.exit_low_power()
    nic_registers.interrupt()
    assert irq_fd.wait() == 1


@claim("F94")
@pytest.mark.topology("igb-pair")
def test_intx_stays_masked_through_low_power(nic, nic_device, nic_registers, irq_fd):
    """INTx that its user has masked stays masked after low power."""
    nic_device.set_irq_eventfds(VFIO_PCI_INTX_IRQ_INDEX, [irq_fd.fd])
    nic_device.mask_irq(VFIO_PCI_INTX_IRQ_INDEX)
    nic_device.enter_low_power()
    assert falls_asleep(nic)
    nic_device.exit_low_power()
    nic_registers.interrupt()
    assert irq_fd.count() == 0
    nic_device.unmask_irq(VFIO_PCI_INTX_IRQ_INDEX)
    assert irq_fd.wait() == 1
