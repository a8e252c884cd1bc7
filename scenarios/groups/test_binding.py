"""Which devices does vfio-pci refuse?

Thread: 2013-groups (assigning a root port is not supported). Kernel:
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_register_device(); drivers/base/dd.c,
call_driver_probe().
"""

from errno import EINVAL

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("bridge")


@claim("E14")
@pytest.mark.parametrize("role", ["port0", "bridge0"])
def test_vfio_pci_refuses_bridges(guest, nic, role):
    """vfio-pci refuses root ports and bridges and binds to the devices below them."""
    bridge = guest.function(role)
    with refused(EINVAL):
        bridge.bind("vfio-pci")
    assert bridge.driver is None
    assert nic.driver == "vfio-pci"


@claim("E14")
def test_a_port_that_vfio_pci_refused_binds_to_pcieport_again(guest, user, nic):
    """A port that vfio-pci refused can be bound to pcieport again."""
    port = guest.function("port0")
    with refused(EINVAL):
        port.bind("vfio-pci")
    port.bind("pcieport")
    assert port.driver == "pcieport"
    assert user.open(nic)


@claim("E20")
def test_a_refused_bind_is_logged(guest, nic, has):
    """The log names the device, the driver and the error of a refused bind."""
    port = guest.function("port0")
    with refused(EINVAL):
        port.bind("vfio-pci")
    if has("probe-error-names-device"):
        line, level = f"vfio-pci {port}: probe with driver vfio-pci failed with error -22", "err"
    else:
        line, level = f"vfio-pci: probe of {port} failed with error -22", "warn"
    assert len(guest.dmesg(line, level=level)) == 1
    assert len(guest.dmesg("failed with error")) == 1, f"{nic} did bind"
