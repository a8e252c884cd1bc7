"""What becomes of the address space of a device with ATS that is changed during a reset?

CVE-2026-52952. Kernel: drivers/iommu/iommu.c, pci_dev_reset_iommu_prepare(), which takes the device
from its domain; drivers/pci/pci.c, pci_dev_wait(), where the user who resets is held.
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


@claim("U08")
def test_a_device_is_detached_and_not_attached_during_a_reset(guest, user, attached):
    """A device with ATS can be detached during its reset, and attached again only afterwards."""
    other, child = attached.iommufd.ioas_alloc(), user.fork()
    with guest.held(child, WAITS_FOR_DEVICE) as held:
        resetting = attached.inherited_by(child).start_reset()
        held.wait()
        attached.detach_iommufd_pt()
        with refused(EBUSY):
            attached.attach_iommufd_pt(other)
    resetting.wait()
    assert attached.attach_iommufd_pt(other) > 0
