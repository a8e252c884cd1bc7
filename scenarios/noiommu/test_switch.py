"""What does the parameter enable_unsafe_noiommu_mode do?

Thread: 2019-noiommu. Kernel: drivers/vfio/vfio_main.c (container.c in 6.1), its parameter;
drivers/vfio/group.c, vfio_group_find_or_alloc().
"""

from errno import EINVAL

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.vfio import VFIO_NOIOMMU_IOMMU, VFIO_TYPE1v2_IOMMU
from vfio_lab.vfio import group_node
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.noiommu import TAINT_USER, UNSAFE_MODE, allow_noiommu
from vfio_lab_pytest.verdicts import refused

PROBE = "/sys/bus/pci/drivers_probe"
PROBE_FAILED = "failed with error -22"


@claim("D03")
@pytest.mark.topology("noiommu")
def test_enabling_noiommu_mode_neither_taints_nor_logs(taints, guest, root):
    """Setting enable_unsafe_noiommu_mode, off by default, neither taints nor logs."""
    assert TAINT_USER not in taints
    assert root.read_file(UNSAFE_MODE) == "N"
    log = guest.kernel_log()
    root.write_file(UNSAFE_MODE, "Y")
    assert root.read_file(UNSAFE_MODE) == "Y"
    assert guest.taints() == taints
    assert guest.kernel_log() == log


@claim("D04")
@pytest.mark.topology("noiommu")
def test_without_noiommu_mode_vfio_pci_refuses_a_device_without_an_iommu(taints, guest, root):
    """With enable_unsafe_noiommu_mode off, vfio-pci refuses a device without an IOMMU."""
    pf, nodes = guest.function("pf0"), root.listdir("/dev/vfio")
    with refused(EINVAL):
        pf.bind("vfio-pci")
    assert guest.dmesg(PROBE_FAILED)
    assert (pf.driver, pf.grouped, root.listdir("/dev/vfio")) == (None, False, nodes)
    assert guest.taints() == taints
    allow_noiommu(guest)
    pf.bind("vfio-pci")
    assert (pf.driver, pf.grouped) == ("vfio-pci", True)


@claim("D05")
@pytest.mark.topology("noiommu")
def test_drivers_probe_hides_the_failure(guest, root):
    """A write to drivers_probe succeeds even if vfio-pci refuses the device."""
    pf = guest.function("pf0")
    pf.write("driver_override", "vfio-pci")
    root.write_file(PROBE, str(pf))
    assert pf.driver is None
    assert len(guest.dmesg(PROBE_FAILED)) == 1
    allow_noiommu(guest)
    root.write_file(PROBE, str(pf))
    assert pf.driver == "vfio-pci"


@claim("D08")
@pytest.mark.usefixtures("taints", "unsafe")
def test_noiommu_mode_does_not_affect_a_device_with_an_iommu(
    taints, guest, root, pf, root_without_rawio
):
    """enable_unsafe_noiommu_mode does not affect a device with an IOMMU."""
    assert group_node(root, str(pf)) == str(pf.group)
    held = root_without_rawio.open(pf)
    memory = root_without_rawio.allocate(PAGE_BYTES)
    held.container.map_dma(memory, 0, PAGE_BYTES)
    assert guest.taints() == taints
    assert not guest.dmesg("noiommu")


@claim("D18")
def test_an_empty_container_offers_the_noiommu_type_in_noiommu_mode(guest, empty_container):
    """An empty container offers the no-IOMMU type while enable_unsafe_noiommu_mode is on."""
    offer = empty_container.check_extension
    assert (offer(VFIO_NOIOMMU_IOMMU), offer(VFIO_TYPE1v2_IOMMU)) == (0, 1)
    allow_noiommu(guest)
    assert (offer(VFIO_NOIOMMU_IOMMU), offer(VFIO_TYPE1v2_IOMMU)) == (1, 1)
    allow_noiommu(guest, allowed=False)
    assert (offer(VFIO_NOIOMMU_IOMMU), offer(VFIO_TYPE1v2_IOMMU)) == (0, 1)
