"""What does DPDK require to run on vfio-pci?"""

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.noiommu import TAINT_USER
from vfio_lab_pytest.tokens import OTHER, TOKEN

pytestmark = pytest.mark.image("clients")


@claim("G09")
def test_dpdk_opens_a_vf_only_with_the_token_of_the_pf_user(pf_user, dpdk, pf, vf):
    """testpmd opens a VF only with the token that the PF's user set."""
    pf_user.open(pf, TOKEN)
    denied = f"Getting a vfio_dev_fd for {vf} failed"
    assert denied in dpdk.forward(vf).said
    assert denied in dpdk.forward(vf, OTHER).said
    assert dpdk.forward(vf, TOKEN).ports == 1


@claim("G10")
@pytest.mark.topology("noiommu")
@pytest.mark.usefixtures("unsafe")
def test_dpdk_runs_without_an_iommu(taints, dpdk, pf, guest):
    """testpmd drives a PF without an IOMMU, and the kernel is tainted."""
    done = dpdk.forward(pf)
    assert "Using IOMMU type 8 (No-IOMMU)" in done.said
    assert done.ports == 1
    assert guest.taints() - taints == {TAINT_USER}


@claim("G11")
@pytest.mark.topology("noiommu")
@pytest.mark.usefixtures("unsafe")
def test_dpdk_without_rawio_cannot_open_a_device_without_an_iommu(dpdk, humble_dpdk, pf):
    """testpmd without CAP_SYS_RAWIO cannot open the group of a no-IOMMU device."""
    denied = "Cannot open /dev/vfio/noiommu-0: Operation not permitted"
    assert denied in humble_dpdk.forward(pf).said
    assert dpdk.forward(pf).ports == 1
