"""What does the host see of a device's interrupts?

Kernel: drivers/vfio/pci/vfio_pci_intrs.c, vfio_msi_set_vector_signal(), vfio_intx_enable() and
vfio_msi_disable(); /proc/interrupts and /proc/irq.
"""

import pytest

from vfio_lab.client.eventfd import Eventfd
from vfio_lab.uapi.pci_regs import PCI_COMMAND_MASTER
from vfio_lab.uapi.vfio import VFIO_PCI_INTX_IRQ_INDEX as INTX
from vfio_lab.uapi.vfio import VFIO_PCI_MSI_IRQ_INDEX as MSI
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import turn_on
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.host_interrupts import host_interrupts

VECTORS, STORM = 3, 40


@pytest.fixture
def eventfds(user):
    """An eventfd for each of three vectors."""
    return [Eventfd(user) for _ in range(VECTORS)]


@pytest.fixture
def armed(device, eventfds, config):
    """The device, three of whose MSI-X vectors signal the eventfds."""
    turn_on(config, PCI_COMMAND_MASTER)
    device.set_irq_eventfds(MSIX, [each.fd for each in eventfds])
    return device


@claim("P01")
def test_each_vector_is_an_interrupt_of_the_host(armed, function):
    """Each MSI-X vector with an eventfd is an interrupt of the host with the vector's number."""
    names = [each.name for each in host_interrupts(function)]
    assert names == [f"vfio-msix[{vector}]({function})" for vector in range(VECTORS)]
    armed.set_irq_eventfds(MSIX, [-1], 1)
    assert [each.name[:12] for each in host_interrupts(function)] == [
        "vfio-msix[0]",
        "vfio-msix[2]",
    ]
    armed.disable_irqs(MSIX)
    assert host_interrupts(function) == []


@claim("P02")
@pytest.mark.usefixtures("armed")
def test_the_host_counts_the_interrupts_of_each_vector(function, registers, eventfds):
    """The host counts an interrupt of the vector that the device raised, and of no other."""
    before = [each.count for each in host_interrupts(function)]
    registers.interrupt_vector(1)
    assert eventfds[1].wait() == 1
    after = [each.count for each in host_interrupts(function)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [0, 1, 0]


@claim("P03")
@pytest.mark.usefixtures("armed")
def test_a_storm_is_counted_whole(function, registers, eventfds):
    """As many interrupts are signalled as were raised one by one, and the host counts them all."""
    before = host_interrupts(function)[0].count
    seen = [(registers.interrupt_vector(0), eventfds[0].wait())[1] for _ in range(STORM)]
    assert sum(seen) == STORM
    assert host_interrupts(function)[0].count - before == STORM


@claim("P04")
def test_an_interrupt_triggered_by_the_user_is_not_the_hosts(armed, function, eventfds):
    """An interrupt that the user triggers by SET_IRQS is signalled, and the host counts none."""
    before = [each.count for each in host_interrupts(function)]
    armed.trigger_irqs(MSIX, 0, VECTORS)
    assert [each.wait() for each in eventfds] == [1] * VECTORS
    assert [each.count for each in host_interrupts(function)] == before


@claim("P05")
@pytest.mark.topology(TWO_CPUS)
@pytest.mark.usefixtures("armed")
@pytest.mark.parametrize("cpu", [0, 1])
def test_an_interrupt_arrives_on_the_cpu_that_it_was_given(function, registers, eventfds, cpu):
    """An interrupt is counted on the CPU to which the administrator moved it."""
    moved = host_interrupts(function)[0]
    moved.move(function.root, cpu)
    registers.interrupt_vector(0)
    assert eventfds[0].wait() == 1
    registers.interrupt_vector(0)
    assert eventfds[0].wait() == 1
    counts = host_interrupts(function)[0].counts
    assert counts[cpu] - moved.counts[cpu] >= 1


@claim("P06")
def test_an_interrupt_line_is_named_after_its_user(function, device, eventfds):
    """INTx and MSI are interrupts of the host too, one of them at a time, and go when disabled."""
    device.set_irq_eventfds(INTX, [eventfds[0].fd])
    assert [each.name for each in host_interrupts(function)] == [f"vfio-intx({function})"]
    device.disable_irqs(INTX)
    device.set_irq_eventfds(MSI, [eventfds[0].fd])
    assert [each.name for each in host_interrupts(function)] == [f"vfio-msi[0]({function})"]
    device.close()
    assert host_interrupts(function) == []


@claim("P07")
@pytest.mark.usefixtures("armed")
def test_the_interrupts_of_a_user_who_was_killed_are_gone(user, function, root):
    """The interrupts of a user who was killed are gone, with their folders in /proc/irq."""
    folders = root.listdir("/proc/irq")
    numbers = {str(each.number) for each in host_interrupts(function)}
    assert numbers <= {*folders}
    user.kill()
    assert host_interrupts(function) == []
    assert not numbers & {*root.listdir("/proc/irq")}
