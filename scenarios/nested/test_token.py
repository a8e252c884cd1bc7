"""Which PFs and VFs can QEMU assign to its guests?"""

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN

pytestmark = [pytest.mark.image("clients"), pytest.mark.topology("igb-large")]
DENIED = "Permission denied"


@claim("G01")
def test_qemu_opens_a_vf_only_with_the_token_of_the_pf_user(pf_user, hypervisor, pf, vf):
    """QEMU opens a VF only with the token that the PF's user set."""
    pf_user.open(pf, TOKEN)
    assert DENIED in hypervisor.assign(vf).stderr
    assert DENIED in hypervisor.assign(vf, OTHER).stderr
    assert hypervisor.assign(vf, TOKEN).exit == 0


@claim("G02", "G04")
@pytest.mark.usefixtures("kvm")
def test_pf_and_vf_go_to_two_guests_that_share_a_token(hypervisor, other_hypervisor, pf, vf):
    """A PF and its VF can be assigned to two guests whose QEMUs present the same token."""
    assert hypervisor.assign(pf, TOKEN).exit == 0
    assert DENIED in other_hypervisor.assign(vf, OTHER).stderr
    inner = other_hypervisor.boot(vf, "igbvf", TOKEN)
    assert inner.found("net") == {"eth0"}


@claim("G03")
def test_a_pf_whose_vf_is_assigned_needs_the_token(pf_user, hypervisor, other_hypervisor, pf, vf):
    """A second QEMU opens a PF only with the token of the VF's guest."""
    pf_user.open(pf, TOKEN).close()
    assert hypervisor.assign(vf, TOKEN).exit == 0
    assert DENIED in other_hypervisor.assign(pf).stderr
    assert DENIED in other_hypervisor.assign(pf, OTHER).stderr
    assert other_hypervisor.assign(pf, TOKEN).exit == 0


@claim("G05")
@pytest.mark.usefixtures("iommufd")
def test_qemu_opens_a_pf_through_iommufd(hypervisor, pf):
    """QEMU opens a PF through its iommufd backend."""
    assert hypervisor.assign(pf, iommufd=True).exit == 0


@claim("A49")
@pytest.mark.usefixtures("iommufd")
def test_qemu_presents_no_token_through_iommufd(pf_user, hypervisor, pf, vf):
    """QEMU opens a VF with a token through its group but not through iommufd."""
    pf_user.open(pf, TOKEN)
    assert DENIED in hypervisor.assign(vf, TOKEN, iommufd=True).stderr
    assert hypervisor.assign(vf, TOKEN).exit == 0
