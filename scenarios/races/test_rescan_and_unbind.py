"""Where does a rescan go on that has waited for a VF which is gone?

B45 is the first half: a rescan during the unbind of a PF reaches a VF that is being removed. If the
VF is closed before the rescan goes on, the VF has left the list that the rescan walks. Kernel:
drivers/pci/bus.c, pci_bus_add_devices(); drivers/pci/remove.c, pci_destroy_dev().
"""

import pytest

from vfio_lab.client.channel import UserGone
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.endings import RESCAN
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.removal import REQUEST_WITHIN_S

pytestmark = pytest.mark.topology(TWO_CPUS)
PROBES, PANIC_ON_OOPS = "device_initial_probe", "/proc/sys/kernel/panic_on_oops"


@claim("U09")
@pytest.mark.complains("Oops")
def test_a_rescan_goes_on_from_a_vf_that_has_been_removed(
    guest, pf, vf_user, used_vf, device_request, remover, observer
):
    """A rescan that stands at a VF while it is removed goes on from the VF: an oops."""
    guest.root.write_file(PANIC_ON_OOPS, "0")
    unbinding = pf.start_unbind(by=remover)
    assert vf_user.await_event(device_request, REQUEST_WITHIN_S) == 1
    with guest.held(observer, PROBES):
        scanning = observer.start_write_file(RESCAN, "1")
        assert guest.is_blocked(scanning)
        used_vf.close()
        unbinding.wait()
    with pytest.raises(UserGone):
        scanning.wait()
