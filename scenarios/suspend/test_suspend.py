"""What is left of the use of a device after the system was suspended?

The machine stays on here: devices are frozen, saved, taken to D3 and back. What a machine does that
sleeps is in test_sleep.py.
Documentation/power/basic-pm-debugging.rst, pm_test. Kernel: drivers/pci/pci-driver.c,
pci_pm_suspend_noirq() and pci_pm_resume_noirq(); drivers/vfio/pci/vfio_pci_core.c,
vfio_pci_core_pm_ops; drivers/base/power/main.c, device_prepare(); kernel/power/process.c,
try_to_freeze_tasks().
"""

from errno import EBUSY

import pytest

from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX as BAR0
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.power import AWAKE, falls_asleep, power
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused
from vfio_lab_pytest.whole_system import answering_over_ssh, suspend

pytestmark = pytest.mark.pristine("the agent is reached over SSH")
MESSAGE = bytes(range(64))
BAR_BYTES = 0x1000


@pytest.fixture
def guest(suspends, guest):
    """The guest, which still answers after a suspend."""
    del suspends
    with answering_over_ssh(guest):
        yield guest


@claim("V01")
def test_a_device_is_configured_as_before(root, device):
    """The configuration space that a user sees is the same after a suspend."""
    before = device.read_config(0, 256)
    suspend(root)
    assert device.read_config(0, 256) == before


@claim("V02")
@pytest.mark.usefixtures("mastering")
def test_interrupts_arrive_as_before(root, device, registers, irq_fd):
    """An MSI-X that was set up before a suspend is signalled after it."""
    device.set_irq_eventfds(MSIX, [irq_fd.fd])
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1
    suspend(root)
    registers.interrupt_vector(0)
    assert irq_fd.wait() == 1


@claim("V03")
def test_memory_is_reached_as_before(root, copier):
    """A device reaches after a suspend what was mapped before it."""
    assert copier.copy(MESSAGE) == MESSAGE
    suspend(root)
    assert copier.copy(MESSAGE[::-1]) == MESSAGE[::-1]


@claim("V04")
def test_vfs_are_there_as_before(root, pf, pf_user, vf_user, vf):
    """VFs in use stay, and so does the number of VFs."""
    pf_user.open(pf, token=TOKEN)
    held = vf_user.open(vf, token=TOKEN)
    before = pf.numvfs, held.get_info().num_regions, held.read_config(0, 256)
    suspend(root)
    assert (pf.numvfs, held.get_info().num_regions, held.read_config(0, 256)) == before


@claim("V05")
def test_a_mapped_bar_is_there_as_before(root, user, device):
    """A BAR that a user had mapped shows the same registers after a suspend."""
    address = device.mmap_region(BAR0, BAR_BYTES)
    before = user.peek(address, 4, width=4)
    suspend(root)
    assert user.peek(address, 4, width=4) == before


@claim("V06")
def test_a_device_in_low_power_sleeps_again(root, function, device):
    """A device whose user had entered low power is in low power after a suspend."""
    device.enter_low_power()
    assert falls_asleep(function)
    suspend(root)
    assert falls_asleep(function)
    device.exit_low_power()
    assert power(function) == AWAKE


@claim("V07")
def test_an_unused_device_sleeps_again(root, function, user):
    """A device that nobody has open is in low power after a suspend, and opens."""
    assert falls_asleep(function)
    suspend(root)
    assert falls_asleep(function)
    assert user.open(function).get_info().num_regions


@claim("V08")
@pytest.mark.usefixtures("impatient")
def test_an_unbind_that_waits_for_a_user_keeps_the_system_awake(
    guest, root, remover, function, device
):
    """The system cannot be suspended while an unbind waits for the user of a device: EBUSY."""
    unbinding = function.start_unbind(by=remover)
    assert guest.is_inside(unbinding, "vfio_unregister_group_dev")
    with refused(EBUSY):
        suspend(root, "freezer")
    device.close()
    unbinding.wait()
    suspend(root, "freezer")


@claim("V09")
def test_a_suspend_does_not_wake_a_device_in_low_power(root, function, device, irq_fd):
    """A device that was to signal when it wakes does not do so before somebody wakes it."""
    device.enter_low_power(wakeup=irq_fd.fd)
    assert falls_asleep(function)
    suspend(root)
    assert (falls_asleep(function), irq_fd.count()) == (True, 0)
    assert device.get_info().num_regions
    assert irq_fd.wait() == 1
