"""What becomes of a device whose user is killed while it sets interrupts?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_set_irqs(), under igate;
vfio_pci_core_close_device(), which runs when the last reference to the file is gone.
"""

from errno import EBUSY

import pytest

from vfio_lab.client.eventfd import Eventfd
from vfio_lab.client.user import CALL_TIMEOUT_S
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX as MSIX
from vfio_lab.util.deadline import Deadline
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.host_interrupts import host_interrupts
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology(TWO_CPUS)
SETS = "vfio_pci_set_irqs_ioctl"


@claim("U06")
def test_a_user_killed_while_setting_interrupts_leaves_none(guest, user, observer, pf, device):
    """A killed user's SET_IRQS comes to its end first; then the device is closed, and unused."""
    with guest.held(user, SETS) as held:
        device.start_set_irq_eventfds(MSIX, [Eventfd(user).fd])
        held.wait()
        killing = user.start_kill()
        with refused(EBUSY):
            observer.open(pf)
    killing.wait(Deadline.after(CALL_TIMEOUT_S))
    assert host_interrupts(pf) == []
    assert observer.open(pf).get_info().num_regions > 0
