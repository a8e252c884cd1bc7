"""Can a dma-buf be mapped while the device that it belongs to is being reset?

Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_reset(), which revokes dma-bufs before the
reset and allows them again after it; drivers/vfio/pci/vfio_pci_dmabuf.c, vfio_pci_dma_buf_move().
"""

from dataclasses import replace
from errno import ENODEV

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.hw.catalogue import find_topology
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

TWO_PFS = replace(find_topology("igb-pair"), name="igb-pair-smp", cpus=2)
pytestmark = pytest.mark.topology(TWO_PFS)
RESETS = "pci_try_reset_function"
PAGE, IOVA = (0, PAGE_BYTES), 0x90_0000


@claim("U07")
def test_a_dma_buf_cannot_be_mapped_during_a_reset(guest, user, other_pf, attached, ioas):
    """A dma-buf is revoked before its device is reset, and can be mapped after the reset."""
    exporter, iommufd = user.open(other_pf, access="cdev"), attached.iommufd
    dma_buf, child = exporter.export_dma_buf(0, [PAGE]), user.fork()
    with guest.held(child, RESETS) as held:
        resetting = exporter.inherited_by(child).start_reset()
        held.wait()
        with refused(ENODEV):
            iommufd.ioas_map_file(ioas, dma_buf, 0, PAGE_BYTES, IOVA)
    resetting.wait()
    assert iommufd.ioas_map_file(ioas, dma_buf, 0, PAGE_BYTES, IOVA)
