"""Which driver does driver_override let a device have, and for how long?

Documentation/ABI/testing/sysfs-bus-pci, driver_override. Kernel: drivers/pci/pci-driver.c,
pci_match_device(); drivers/base/dd.c, __device_set_driver_override() (since 7.3; before,
drivers/pci/pci-sysfs.c, driver_override_store()).
"""

from errno import EINVAL, ENODEV

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import probe_drivers
from vfio_lab_pytest.verdicts import refused

pytestmark = [
    pytest.mark.topology("igb-pair"),
    pytest.mark.pristine("it leaves functions to drivers of the host"),
]
BIND = "/sys/bus/pci/drivers/vfio-pci/bind"
NONE = "(null)"
LONGEST_BYTES = 4094


@claim("F105")
def test_a_driver_that_is_not_there_keeps_others_away(guest):
    """A device whose driver_override names a driver that is not there is bound by no other."""
    pf, twin = guest.function("pf0"), guest.function("pf1")
    pf.write("driver_override", "no-driver")
    guest.load("igb")
    probe_drivers(pf)
    assert (pf.driver, twin.driver) == (None, "igb")
    pf.write("driver_override", "")
    probe_drivers(pf)
    assert pf.driver == "igb"


@claim("F106")
def test_a_bound_driver_stays_until_it_is_unbound(guest):
    """A new driver_override leaves a device to its driver, which cannot bind it once more."""
    pf = guest.function("pf0")
    pf.bind("vfio-pci")
    guest.load("igb")
    pf.write("driver_override", "igb")
    assert pf.driver == "vfio-pci"
    pf.unbind()
    with refused(ENODEV):
        guest.root.write_file(BIND, str(pf))
    probe_drivers(pf)
    assert pf.driver == "igb"


@claim("F107")
def test_an_override_lasts_until_an_empty_line(guest):
    """A driver_override outlasts the unloading of its driver, and ends by an empty line."""
    pf = guest.function("pf0")
    assert pf.read("driver_override") == NONE
    pf.bind("vfio-pci")
    pf.unbind()
    guest.unload("vfio-pci")
    assert pf.read("driver_override") == "vfio-pci"
    guest.load("vfio-pci")
    assert pf.driver == "vfio-pci"
    pf.write("driver_override", "")
    assert (pf.read("driver_override"), pf.driver) == (NONE, "vfio-pci")


@claim("F108")
def test_an_override_has_a_longest_name(guest):
    """A driver_override of more than 4094 bytes with its newline is refused: EINVAL."""
    pf, name = guest.function("pf0"), "x" * (LONGEST_BYTES - len("\n"))
    pf.write("driver_override", "vfio-pci\nigb")
    with refused(EINVAL):
        pf.write("driver_override", f"{name}x")
    assert pf.read("driver_override") == "vfio-pci"
    pf.write("driver_override", name)
    assert pf.read("driver_override") == name
