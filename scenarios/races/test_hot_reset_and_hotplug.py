"""Does a hot reset of a device end while its slot loses power?

Fixed before 6.6: f5eff5591b8f, "PCI: pciehp: Fix AB-BA deadlock between reset_lock and
device_lock". Kernel: drivers/pci/hotplug/pciehp_pci.c, pciehp_unconfigure_device();
drivers/pci/hotplug/pciehp_hpc.c, pciehp_reset_slot().
"""

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.hotplug import start_power_off
from vfio_lab_pytest.verdicts import outcome

pytestmark = pytest.mark.topology(TWO_CPUS)
UNPLUGS = "pciehp_unconfigure_device"


@claim("U05")
@pytest.mark.pristine("it unplugs a device for good")
def test_a_hot_reset_during_the_removal_from_a_slot_ends(guest, pf, marked_pf, remover):
    """A hot reset that waits for a removal from the slot ends, and the removal after the close."""
    with guest.held(None, UNPLUGS) as held:
        removing = start_power_off(pf, remover)
        held.wait()
        resetting = marked_pf.start_hot_reset([marked_pf.group])
        assert guest.is_blocked(resetting)
    assert outcome(resetting.wait) == 0
    marked_pf.close()
    removing.wait()
    assert not pf.present
