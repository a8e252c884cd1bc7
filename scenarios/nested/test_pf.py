"""How does a guest see and use a PF that is assigned to it?"""

import pytest

from vfio_lab_pytest.claims import claim

pytestmark = [pytest.mark.image("clients"), pytest.mark.topology("igb-large")]
SELFTEST = "selftest=1"


@claim("G06", "G07")
@pytest.mark.usefixtures("kvm")
def test_a_guest_drives_a_pf_that_has_no_vfs_and_sees_no_sriov(hypervisor, pf):
    """A guest's igb passes its self tests on an assigned PF and sees no SR-IOV capability."""
    inner = hypervisor.boot(pf, "igb", None, SELFTEST)
    assert "The test result is PASS" in inner.console
    assert inner.found("has") == {"aer_dev_fatal"}
    assert pf.numvfs == 0  # the PF itself has SR-IOV, without VFs


@claim("G06", "G08")
@pytest.mark.usefixtures("kvm", "vfs")
def test_a_pf_with_vfs_does_not_work_in_a_guest(hypervisor, pf):
    """A guest's igb fails its loopback test on an assigned PF with enabled VFs."""
    inner = hypervisor.boot(pf, "igb", None, SELFTEST)
    assert inner.selftest("Register test") == 0
    assert inner.selftest("Loopback test") != 0
    assert inner.found("has") == {"aer_dev_fatal"}
