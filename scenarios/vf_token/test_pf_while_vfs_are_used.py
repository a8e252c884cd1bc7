"""Who can open a PF while its VFs are in use?

Thread: 2020-vf-token. Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match_token_uuid().
"""

from errno import EACCES
from uuid import UUID

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import refused


@claim("A12", "A13")
@pytest.mark.parametrize("presented", [None, OTHER], ids=["no token", "wrong token"])
def test_pf_of_a_used_vf_stays_shut_without_the_token(pf_user, pf, used_vf, presented):
    """While a VF is in use, its PF opens only with the current token."""
    with refused(EACCES):
        pf_user.open(pf, presented)
    used_vf.close()
    assert pf_user.open(pf, presented)


@claim("A12", "A14", "A39")
def test_pf_of_a_used_vf_stays_shut_without_the_token_by_cdev(pf_user, vf_user, pf, vf):
    """While a VF is bound to an iommufd, its PF binds only with the current token."""
    pf_user.open(pf, TOKEN, access="cdev").close()
    vf_user.open(vf, TOKEN, access="cdev")
    with refused(EACCES):
        pf_user.open(pf, OTHER, access="cdev")
    assert pf_user.open(pf, TOKEN, access="cdev")


@claim("A14")
@pytest.mark.usefixtures("used_vf")
def test_pf_of_a_used_vf_opens_with_the_token(pf_user, pf):
    """While a VF is in use, its PF opens with the token that the VF's user presented."""
    with refused(EACCES):
        pf_user.open(pf, OTHER)
    assert pf_user.open(pf, TOKEN)


@claim("A13")
@pytest.mark.usefixtures("used_vf")
def test_a_wrong_token_for_the_pf_leaves_the_token_as_it_was(pf_user, vf_user, pf, other_vf):
    """A refused open of a PF does not change the token."""
    with refused(EACCES):
        pf_user.open(pf, OTHER)
    with refused(EACCES):
        vf_user.open(other_vf, OTHER)
    assert vf_user.open(other_vf, TOKEN)


@claim("A13", "A14")
@pytest.mark.usefixtures("used_vf")
@pytest.mark.parametrize("bit", [0, 7, 63, 64, 127])
def test_a_token_for_the_pf_that_differs_in_one_bit_is_wrong(pf_user, pf, bit):
    """A token that differs in any of its 128 bits does not open a PF whose VF is in use."""
    with refused(EACCES):
        pf_user.open(pf, UUID(int=TOKEN.int ^ 1 << bit))
    assert pf_user.open(pf, TOKEN)


@claim("A15")
def test_a_second_descriptor_of_the_pf_needs_the_token_too(pf_user, vf_user, pf, vf):
    """While a VF is in use, a second open of an open PF needs the token."""
    first = pf_user.open(pf, TOKEN)
    vf_user.open(vf, TOKEN)
    with refused(EACCES):
        first.group.get_device_fd(str(pf))
    assert first.group.get_device_fd(f"{pf} vf_token={TOKEN}")


@claim("A16")
def test_a_second_descriptor_of_the_pf_may_replace_the_token(pf_user, vf_user, pf, vf):
    """While no VF is in use, a second open of an open PF replaces its token."""
    first = pf_user.open(pf, TOKEN)
    first.group.get_device_fd(f"{pf} vf_token={OTHER}")
    with refused(EACCES):
        vf_user.open(vf, TOKEN)
    assert vf_user.open(vf, OTHER)
