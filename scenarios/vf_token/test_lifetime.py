"""How long does a token live?

Thread: 2020-vf-token, where a new token for every SR-IOV cycle was asked for and refused.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_vf_init() and vfio_pci_vf_uninit().
"""

from errno import EACCES

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import refused


@claim("A09")
def test_the_token_survives_the_close_of_every_descriptor(pf_user, vf_user, pf, vf):
    """A token stays valid after every descriptor of the PF and its VFs is closed."""
    pf_user.open(pf, TOKEN).close()
    vf_user.open(vf, TOKEN).close()
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A09")
def test_the_token_survives_the_death_of_the_user_who_set_it(pf_user, vf_user, pf, vf):
    """A token stays valid after kill -9 of the PF's user who set it."""
    pf_user.open(pf, TOKEN)
    pf_user.kill()
    with refused(EACCES):
        vf_user.open(vf)
    assert vf_user.open(vf, TOKEN)


@claim("A10")
@pytest.mark.usefixtures("vfs")
def test_the_token_is_lost_when_the_pf_leaves_vfio_pci(pf_user, vf_user, pf):
    """A PF that is bound to vfio-pci again has a new random token."""
    pf_user.open(pf, TOKEN).close()
    pf.bind("vfio-pci")
    (vf_again,) = pf.enable_vfs(1)
    with refused(EACCES):
        vf_user.open(vf_again, TOKEN)
    pf_user.open(pf, TOKEN)
    assert vf_user.open(vf_again, TOKEN)


@claim("A11")
def test_the_token_survives_sriov_being_turned_off_and_on(pf_user, vf_user, pf, vf):
    """A token stays valid when SR-IOV is disabled and enabled again."""
    pf_user.open(pf, TOKEN).close()
    pf.enable_vfs(0)
    assert not vf.present
    pf.enable_vfs(1)
    with refused(EACCES):
        vf_user.open(vf)
    assert vf_user.open(vf, TOKEN)
