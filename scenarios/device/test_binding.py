"""Which devices does vfio-pci bind to?

Kernel: drivers/vfio/pci/vfio_pci.c, vfio_pci_fill_ids(); drivers/pci/pci-driver.c, new_id_store(),
pci_match_device().
"""

from errno import EEXIST, ENODEV

import pytest

from vfio_lab.client.sysfs import ENABLE_SRIOV
from vfio_lab.machine.base import TAINT_FORCED_BIND
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import probe_drivers
from vfio_lab_pytest.verdicts import refused

pytestmark = [
    pytest.mark.topology("igb-pair"),
    pytest.mark.pristine("it gives vfio-pci IDs, which stay"),
]
NEW_ID = "/sys/bus/pci/drivers/vfio-pci/new_id"
REMOVE_ID = "/sys/bus/pci/drivers/vfio-pci/remove_id"
BIND = "/sys/bus/pci/drivers/vfio-pci/bind"
E1000E, IGB = "8086 10d3", "8086 10c9"


@claim("F54")
def test_the_parameter_ids_binds_listed_devices(guest):
    """The parameter ids makes vfio-pci bind to every device with a listed ID, and logs it."""
    guest.unload("vfio-pci")
    guest.load("vfio-pci", "ids=8086:10d3,nonsense,8086:10c9:ffff:ffff")
    assert guest.function("nic0").driver == "vfio-pci"
    assert guest.function("pf0").driver is None
    assert guest.dmesg("vfio_pci: add [8086:10d3[ffffffff:ffffffff]] class 0x000000/00000000")
    assert guest.dmesg("vfio_pci: add [8086:10c9[ffff:ffff]] class 0x000000/00000000")
    assert guest.dmesg('vfio_pci: invalid id string "nonsense"', level="warn")


@claim("F54")
def test_new_id_binds_devices_without_a_driver_at_once(guest):
    """new_id binds all devices without a driver at once, and remove_id ends that."""
    nic = guest.function("nic0")
    assert nic.driver is None
    guest.root.write_file(NEW_ID, E1000E)
    assert nic.driver == "vfio-pci"
    assert guest.function("pf0").driver is None
    with refused(EEXIST):
        guest.root.write_file(NEW_ID, E1000E)
    guest.root.write_file(REMOVE_ID, E1000E)
    nic.unbind()
    with refused(ENODEV):
        guest.root.write_file(BIND, str(nic))


@claim("F54")
def test_new_id_takes_no_device_from_its_driver(guest):
    """new_id does not take a device from its driver, but vfio-pci can bind to it later."""
    guest.load("igb")
    pf = guest.function("pf0")
    pf.bind("igb")
    guest.root.write_file(NEW_ID, IGB)
    assert pf.driver == "igb"
    pf.unbind()
    pf.write("driver_override", "")
    guest.root.write_file(BIND, str(pf))
    assert pf.driver == "vfio-pci"


@claim("F54")
def test_driver_override_binds_one_device(guest):
    """driver_override makes vfio-pci bind to one device and keeps other drivers from it."""
    pf, twin = guest.function("pf0"), guest.function("pf1")
    with refused(ENODEV):
        guest.root.write_file(BIND, str(pf))
    pf.write("driver_override", "vfio-pci")
    guest.root.write_file(BIND, str(pf))
    assert (pf.driver, twin.driver) == ("vfio-pci", None)
    guest.load("igb")
    assert pf.driver == "vfio-pci"
    assert twin.driver == "igb"


@claim("F104")
def test_a_bind_by_hand_taints_the_kernel(guest):
    """A write to bind taints the kernel; a bind by drivers_probe and a captured VF do not."""
    guest.root.write_file(ENABLE_SRIOV, "Y")
    pf = guest.function("pf0")
    pf.write("driver_override", "vfio-pci")
    probe_drivers(pf)
    (vf,) = pf.enable_vfs(1)
    assert (pf.driver, vf.driver) == ("vfio-pci", "vfio-pci")
    assert TAINT_FORCED_BIND not in guest.taints(ours=True)
    guest.function("nic0").bind("vfio-pci")
    assert TAINT_FORCED_BIND in guest.taints(ours=True)
