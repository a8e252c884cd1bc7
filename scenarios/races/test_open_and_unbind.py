"""Who is first if a device is opened while it is unbound?

Kernel: drivers/vfio/group.c, vfio_group_ioctl_get_device_fd(); drivers/vfio/vfio_main.c,
vfio_unregister_group_dev(), which first makes the device impossible to open and then waits.
"""

from errno import EAGAIN, ENODEV

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.held import TWO_CPUS
from vfio_lab_pytest.removal import WAITS_FOR_USER
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.topology(TWO_CPUS)
OPENS, HAS_RESET, LEAVES = "vfio_pci_open_device", "vfio_config_init", "device_del"


@pytest.fixture
def group(user, pf):
    """The PF's group in a container of its user; the PF is not open."""
    device = user.open(pf)
    user.close(device.fd)
    return device.group


@claim("U03")
def test_an_unbind_before_the_reset_at_open_makes_the_open_fail(guest, pf, group, remover):
    """An open that finds the device locked by its unbind fails with EAGAIN, and the unbind ends."""
    with guest.held(group.user, OPENS) as held:
        opening = group.start_get_device_fd(str(pf))
        held.wait()
        unbinding = pf.start_unbind(by=remover)
        assert guest.is_inside(unbinding, WAITS_FOR_USER)
    assert outcome(opening.wait) == EAGAIN
    unbinding.wait()
    assert pf.driver is None


@claim("U03")
def test_an_unbind_after_the_reset_at_open_waits_for_the_close(guest, pf, group, remover):
    """An open that has reset the device succeeds, and the unbind waits until it is closed."""
    with guest.held(group.user, HAS_RESET) as held:
        opening = group.start_get_device_fd(str(pf))
        held.wait()
        unbinding = pf.start_unbind(by=remover)
        assert guest.is_inside(unbinding, WAITS_FOR_USER)
    group.user.close(opening.wait().value)
    unbinding.wait()
    assert pf.driver is None


@claim("U04")
def test_an_open_during_an_unbind_is_refused(guest, pf, group, remover):
    """A device that is being unbound cannot be opened any more, and can after the next bind."""
    with guest.held(remover, LEAVES) as held:
        unbinding = pf.start_unbind(by=remover)
        held.wait()
        with refused(ENODEV):
            group.get_device_fd(str(pf))
    unbinding.wait()
    group.close()
    pf.bind("vfio-pci")
    assert group.user.open(pf).get_info().num_regions > 0
