"""What does a token mean for devices other than a PF and its own VFs?

Thread: 2020-vf-token (native PF drivers are trusted; a token where none applies is an error).
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match_token_uuid(), vfio_pci_bus_notifier().
"""

from errno import EACCES, EINVAL

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import refused


@claim("A31", "A45")
@pytest.mark.parametrize(("driver", "module"), [("igb", "igb"), ("pci-pf-stub", "pci-pf-stub")])
def test_vf_of_a_pf_on_a_host_driver_takes_no_token(guest, vf_user, driver, module):
    """A VF of a PF on a host driver opens without a token and is refused with one."""
    guest.load(module)
    pf = guest.function("pf0")
    pf.bind(driver)
    (vf,) = pf.enable_vfs(1)
    vf.bind("vfio-pci")
    with refused(EINVAL):
        vf_user.open(vf, TOKEN)
    reason = "VF token incorrectly provided, PF not bound to vfio-pci"
    assert guest.dmesg(f"vfio-pci {vf}: {reason}", level="info")
    assert vf_user.open(vf)


@claim("A31", "A45")
@pytest.mark.topology("igb-pair")
def test_a_vfio_pf_does_not_affect_vfs_of_another_pf(guest, vf_user, pf, host_pf):
    """A PF on vfio-pci with VFs of its own does not affect the VFs of a PF on igb."""
    pf.enable_vfs(1)
    (vf,) = host_pf.enable_vfs(1)
    assert vf.driver != "vfio-pci"
    vf.bind("vfio-pci")
    with refused(EINVAL):
        vf_user.open(vf, TOKEN)
    assert vf_user.open(vf)
    assert not guest.dmesg(f"{pf}: VF {vf} bound to driver")


@claim("A10", "A45")
def test_a_pf_that_left_vfio_pci_captures_no_vfs(guest, vf_user, pf):
    """VFs created after the PF has moved to igb need no token and are not captured."""
    guest.load("igb")
    pf.bind("igb")
    (vf,) = pf.enable_vfs(1)
    assert vf.driver != "vfio-pci"
    vf.bind("vfio-pci")
    with refused(EINVAL):
        vf_user.open(vf, TOKEN)
    assert vf_user.open(vf)


@claim("A32")
@pytest.mark.topology("igb-pair")
def test_a_device_without_sriov_takes_no_token(vf_user, nic):
    """A token for a device that is neither PF nor VF is refused."""
    with refused(EINVAL):
        vf_user.open(nic, TOKEN)
    assert vf_user.open(nic)


@claim("A43")
@pytest.mark.topology("igb-pair")
def test_a_device_without_sriov_takes_no_token_by_cdev(guest, vf_user, nic):
    """The cdev path refuses a token for a device that is neither PF nor VF."""
    with refused(EINVAL):
        vf_user.open(nic, TOKEN, access="cdev")
    assert guest.dmesg(f"{nic}: VF token incorrectly provided, not a PF or VF", level="info")
    assert vf_user.open(nic, access="cdev")


@claim("A44")
@pytest.mark.topology("igb-pair")
def test_the_token_of_one_pf_opens_no_vf_of_another(pf_user, vf_user, pf, other_pf):
    """The token of one PF does not open a VF of another PF."""
    (vf,), (foreign_vf,) = pf.enable_vfs(1), other_pf.enable_vfs(1)
    pf_user.open(pf, TOKEN)
    pf_user.open(other_pf, OTHER)
    with refused(EACCES):
        vf_user.open(foreign_vf, TOKEN)
    assert vf_user.open(foreign_vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A44")
@pytest.mark.topology("igb-pair")
def test_a_vf_needs_the_token_of_its_own_pf(pf_user, vf_user, pf, other_pf):
    """A VF needs the token of its own PF, whichever PF enabled SR-IOV last."""
    (vf,), _ = pf.enable_vfs(1), other_pf.enable_vfs(1)
    vf.bind("vfio-pci")
    pf_user.open(pf, TOKEN)
    pf_user.open(other_pf, OTHER)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A44")
@pytest.mark.topology("igb-pair")
def test_vfs_in_use_do_not_affect_another_pf(pf_user, vf_user, pf, other_pf):
    """A VF in use does not affect the open of another PF."""
    (vf,) = pf.enable_vfs(1)
    pf_user.open(pf, TOKEN).close()
    vf_user.open(vf, TOKEN)
    with refused(EACCES):
        pf_user.open(pf)
    assert pf_user.open(other_pf)


@claim("A46")
def test_a_vf_on_a_host_driver_does_not_count_as_in_use(guest, pf_user, pf, vf):
    """A VF moved to igbvf does not count as in use; the kernel warns about the pair of drivers."""
    remark = f"{pf}: VF {vf} bound to driver"
    assert not guest.dmesg(remark)
    guest.load("igbvf")
    vf.bind("igbvf")
    assert pf_user.open(pf, TOKEN)
    assert guest.dmesg(f"{remark} igbvf while PF bound to driver vfio-pci", level="warn")
