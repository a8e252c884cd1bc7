"""Which drivers can bind to devices of a group that a user owns?

Thread: 2013-groups (a user owns all of a group in use). Kernel: drivers/iommu/iommu.c,
iommu_device_use_default_domain(); drivers/base/bus.c, drivers_probe_store().
"""

from errno import EBUSY, EINVAL, EPERM

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import HOST_DRIVER, give, probe_drivers
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("multifunction")


@claim("E09")
def test_no_host_driver_binds_in_an_owned_group(guest, owned, neighbour):
    """A host driver does not bind to a device of an owned group, when loaded or by hand."""
    guest.load(HOST_DRIVER)
    assert guest.function("nic2").driver == HOST_DRIVER
    assert neighbour.driver is None
    with refused(EBUSY):
        neighbour.bind(HOST_DRIVER)
    assert neighbour.driver is None
    owned.unset_container()
    neighbour.bind(HOST_DRIVER)
    assert neighbour.driver == HOST_DRIVER


@claim("E10")
def test_drivers_probe_in_an_owned_group_fails_with_einval(guest, owned, neighbour):
    """A write to drivers_probe for a device of an owned group fails with EINVAL."""
    guest.load(HOST_DRIVER)
    with refused(EINVAL):
        probe_drivers(neighbour)
    assert neighbour.driver is None
    owned.unset_container()
    probe_drivers(neighbour)
    assert neighbour.driver == HOST_DRIVER


@claim("E11")
def test_pci_stub_and_vfio_pci_bind_in_an_owned_group(guest, ready, neighbour):
    """pci-stub and vfio-pci can bind to a device of an owned group."""
    give(guest, neighbour, "pci-stub")
    assert neighbour.driver == "pci-stub"
    neighbour.bind("vfio-pci")
    assert ready.get_device_fd(str(neighbour)).get_info().num_regions > 0


@claim("E11")
@pytest.mark.topology("switch")
def test_pcieport_can_be_rebound_in_an_owned_group(guest, ready, nic):
    """pcieport can be unbound and bound again in an owned group while a device is open."""
    device = ready.get_device_fd(str(nic))
    port = guest.function("down1")
    port.unbind()
    assert port.driver is None
    port.bind("pcieport")
    assert port.driver == "pcieport"
    assert device.get_info().num_regions > 0


@claim("E12")
def test_ownership_ends_when_group_and_devices_are_closed(
    guest, ready, nic, neighbour, new_container
):
    """An open device keeps its group owned after the group and the container are closed."""
    device = ready.get_device_fd(str(nic))
    guest.load(HOST_DRIVER)
    ready.close()
    new_container.close()
    with refused(EBUSY):
        neighbour.bind(HOST_DRIVER)
    device.close()
    neighbour.bind(HOST_DRIVER)
    assert neighbour.driver == HOST_DRIVER


@claim("E12")
def test_ownership_ends_when_an_attached_group_is_closed(guest, owned, neighbour, user, nic):
    """Closing an attached group ends its ownership."""
    owned.close()
    give(guest, neighbour, HOST_DRIVER)
    neighbour.unbind()
    assert user.open(nic)


@claim("E12")
@pytest.mark.usefixtures("ready")
def test_ownership_ends_with_its_user(guest, user, neighbour):
    """kill -9 of a user ends the user's ownership of the group."""
    guest.load(HOST_DRIVER)
    with refused(EBUSY):
        neighbour.bind(HOST_DRIVER)
    user.kill()
    neighbour.bind(HOST_DRIVER)
    assert neighbour.driver == HOST_DRIVER


@claim("E13")
def test_an_open_group_is_not_owned(guest, group, new_container, neighbour):
    """A group that is open but not attached does not prevent a host driver from binding."""
    give(guest, neighbour, HOST_DRIVER)
    assert neighbour.driver == HOST_DRIVER
    with refused(EPERM):
        group.set_container(new_container)
    neighbour.unbind()
    group.set_container(new_container)
