"""Can a device with ATS be detached, closed or attached while an administrator resets it?

Report: CVE-2026-52952. A device with ATS is taken from its domain for the time of a reset; a device
without it is not, so that a scenario with another device would show nothing. Kernel:
drivers/iommu/iommu.c, pci_dev_reset_iommu_prepare() and pci_dev_reset_iommu_done().
"""

from errno import EBUSY

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.held import WITH_ATS
from vfio_lab_pytest.sriov import on_vfio_pci
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology(WITH_ATS)
RESETS = 6  # one after the other, a tenth of a second each


@pytest.fixture
def function(guest):
    """A random number generator with ATS, on vfio-pci."""
    return on_vfio_pci(guest, "rng0")


@pytest.fixture
def under_way(guest, function):
    """A function that has administrators reset the device one after the other."""

    def start():
        resetters = [guest.user(f"resetter {number}") for number in range(RESETS)]
        resets = [function.start_write("reset", 1, by=each) for each in resetters]
        assert guest.is_blocked(resets[-1])
        return resets

    return start


@claim("K22")
def test_a_device_is_detached_while_it_is_reset(attached, ioas, under_way):
    """A device with ATS is detached during a reset, and can be attached again afterwards."""
    resets = under_way()
    attached.detach_iommufd_pt()
    _ = [each.wait() for each in resets]
    attached.iommufd.destroy(ioas)
    assert attached.attach_iommufd_pt(attached.iommufd.ioas_alloc()) > 0


@claim("K23")
def test_a_device_is_closed_while_it_is_reset(device, function, under_way):
    """A device with ATS is closed, and its container with it, during a reset."""
    resets = under_way()
    device.close()
    _ = [each.wait() for each in resets]
    function.unbind()
    assert function.driver is None


@claim("K24")
def test_a_device_is_attached_to_nothing_else_while_it_is_reset(attached, under_way):
    """Attaching a device with ATS to another IOAS fails with EBUSY until its reset is over."""
    other, resets = attached.iommufd.ioas_alloc(), under_way()
    with refused(EBUSY):
        attached.attach_iommufd_pt(other)
    _ = [each.wait() for each in resets]
    assert attached.attach_iommufd_pt(other) > 0
