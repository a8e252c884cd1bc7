"""What happens when a device in use is unplugged?

Kernel: drivers/pci/hotplug/pciehp_pci.c, pciehp_unconfigure_device(); drivers/vfio/vfio_main.c,
vfio_unregister_group_dev().
"""

import pytest

from vfio_lab.uapi.pci_regs import PCI_VENDOR_ID
from vfio_lab.uapi.vfio import VFIO_PCI_REQ_IRQ_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hotplug import (
    UNPLUG_TIMEOUT_S,
    await_unplugged,
    press_button,
    start_power_off,
)
from vfio_lab_pytest.removal import REQUEST_WITHIN_S, request_channel
from vfio_lab_pytest.tokens import TOKEN

INTEL = 0x8086


@claim("F36", "F60")
@pytest.mark.pristine("it unplugs a device for good")
def test_unplugging_a_device_waits_for_its_user(guest, function, device, config, irq_fd):
    """Unplugging a device in use notifies its user and waits for the close."""
    device.set_irq_eventfds(VFIO_PCI_REQ_IRQ_INDEX, [irq_fd.fd])
    press_button(guest, "pf0")
    assert irq_fd.wait() == 1
    assert function.present
    assert config.word(PCI_VENDOR_ID) == INTEL
    device.close()
    await_unplugged(guest)
    assert not function.present
    assert guest.dmesg("Relaying device request to user")


@claim("F36", "F60")
@pytest.mark.pristine("it unplugs a device for good")
def test_unplugging_a_pf_waits_for_the_users_of_its_vfs(pf_user, vf_user, remover, pf, vf):
    """Unplugging a PF waits first for the users of its VFs and then for its own user."""
    pf_fd, vf_fd = pf_user.open(pf, TOKEN), vf_user.open(vf, TOKEN)
    asked_pf, asked_vf = request_channel(pf_user, pf_fd), request_channel(vf_user, vf_fd)
    power_off = start_power_off(pf, by=remover)
    assert vf_user.await_event(asked_vf, REQUEST_WITHIN_S) == 1
    vf_fd.close()
    assert pf_user.await_event(asked_pf, UNPLUG_TIMEOUT_S) == 1
    assert not power_off.returned
    assert (vf.present, pf.present) == (False, True)
    pf_fd.close()
    power_off.wait(UNPLUG_TIMEOUT_S)
    assert not pf.present
