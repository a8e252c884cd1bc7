"""Can a device with ATS be detached, closed or attached while an administrator resets it?

Report: CVE-2026-52952. A device with ATS is taken from its domain for the time of a reset; a device
without it is not, so that a scenario with another device would show nothing. Kernel:
drivers/iommu/iommu.c, pci_dev_reset_iommu_prepare() and pci_dev_reset_iommu_done();
drivers/pci/pci.c, pci_dev_wait(), where the administrator is held.
"""

from errno import EBUSY

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.held import WAITS_FOR_DEVICE, WITH_ATS
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology(WITH_ATS)


@pytest.fixture
def function(guest):
    """A random number generator with ATS, on vfio-pci."""
    return on_vfio_pci(guest, "rng0")


@claim("K22")
def test_a_device_is_detached_while_it_is_reset(guest, function, attached, ioas, observer):
    """A device with ATS is detached during a reset, and can be attached again afterwards."""
    with guest.held(observer, WAITS_FOR_DEVICE) as held:
        resetting = function.start_write("reset", 1, by=observer)
        held.wait()
        attached.detach_iommufd_pt()
    resetting.wait()
    attached.iommufd.destroy(ioas)
    assert attached.attach_iommufd_pt(attached.iommufd.ioas_alloc()) > 0


@claim("K23")
def test_a_device_is_closed_while_it_is_reset(guest, function, device, observer):
    """A device with ATS is closed, and its container with it, during a reset."""
    with guest.held(observer, WAITS_FOR_DEVICE) as held:
        resetting = function.start_write("reset", 1, by=observer)
        held.wait()
        device.close()
    resetting.wait()
    function.unbind()
    assert function.driver is None


@claim("K24")
def test_a_device_is_attached_to_nothing_else_while_it_is_reset(
    guest, function, attached, observer
):
    """Attaching a device with ATS to another IOAS fails with EBUSY until its reset is over."""
    other = attached.iommufd.ioas_alloc()
    with guest.held(observer, WAITS_FOR_DEVICE) as held:
        resetting = function.start_write("reset", 1, by=observer)
        held.wait()
        with refused(EBUSY):
            attached.attach_iommufd_pt(other)
    resetting.wait()
    assert attached.attach_iommufd_pt(other) > 0
