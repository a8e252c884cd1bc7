"""Who can open a VF whose PF is in a user's hands?

Thread: 2020-vf-token. Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match_token_uuid()
(before 6.17: vfio_pci_validate_vf_token()).
"""

from errno import EACCES, EINVAL
from uuid import UUID, uuid4

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import refused

NIL = UUID(int=0)

by_group_and_cdev = pytest.mark.parametrize(
    "access", ["group", pytest.param("cdev", marks=claim("A39"))]
)


@claim("A04")
@by_group_and_cdev
def test_vf_opens_with_the_token_its_pf_user_set(pf_user, vf_user, pf, vf, access):
    """A VF opens with the token that the PF's user set."""
    pf_user.open(pf, TOKEN, access=access)
    assert vf_user.open(vf, TOKEN, access=access).get_info().num_regions > 0


@claim("A02", "A03", "A04")
@by_group_and_cdev
@pytest.mark.parametrize("presented", [None, OTHER], ids=["no token", "wrong token"])
def test_vf_stays_shut_to_users_who_lack_the_pf_users_token(
    pf_user, vf_user, pf, vf, presented, access
):
    """A VF opens only for a user who presents the token that the PF's user set."""
    pf_user.open(pf, TOKEN, access=access)
    with refused(EACCES):
        vf_user.open(vf, presented, access=access)
    assert vf_user.open(vf, TOKEN, access=access)


@claim("A03", "A04")
@pytest.mark.parametrize("bit", [0, 7, 63, 64, 127])
def test_a_token_that_differs_in_one_bit_is_wrong(pf_user, vf_user, pf, vf, bit):
    """A token that differs in any of its 128 bits does not open a VF."""
    pf_user.open(pf, TOKEN)
    with refused(EACCES):
        vf_user.open(vf, UUID(int=TOKEN.int ^ 1 << bit))
    assert vf_user.open(vf, TOKEN)


@claim("A02", "A03", "A04")
@pytest.mark.parametrize("topology", ["igb-bus", "virtio-iommu", "nvme-sriov"], indirect=True)
@pytest.mark.parametrize("presented", [None, OTHER], ids=["no token", "wrong token"])
def test_the_token_guards_vfs_whatever_the_hardware(pf_user, vf_user, pf, vf, presented):
    """The token works the same for every kind of PF, reset scope and vIOMMU."""
    pf_user.open(pf, TOKEN)
    with refused(EACCES):
        vf_user.open(vf, presented)
    assert vf_user.open(vf, TOKEN)


@claim("A01")
@pytest.mark.parametrize("presented", [None, OTHER], ids=["no token", "a guess"])
def test_a_pf_has_a_random_token_from_its_bind(pf_user, vf_user, pf, vf, presented):
    """A PF has a random token from its bind to vfio-pci on, so its VFs are closed to all."""
    with refused(EACCES):
        vf_user.open(vf, presented)
    pf_user.open(pf, OTHER)
    assert vf_user.open(vf, OTHER)


@claim("A01")
def test_the_nil_uuid_is_not_the_default_token(pf_user, vf_user, pf, vf):
    """A PF's first token is random and not zero, but zero can be set like any other token."""
    with refused(EACCES):
        vf_user.open(vf, NIL)
    pf_user.open(pf, NIL)
    assert vf_user.open(vf, NIL)


@claim("A05")
def test_pf_without_vf_users_opens_without_a_token(pf_user, vf_user, pf, vf):
    """A PF whose VFs are unused opens without a token, and its VFs still need one."""
    assert pf_user.open(pf)
    with refused(EACCES):
        vf_user.open(vf, uuid4())


@claim("A05", "A09")
def test_pf_opened_without_a_token_keeps_the_one_it_had(pf_user, vf_user, pf, vf):
    """Opening a PF without a token does not change its token."""
    pf_user.open(pf, TOKEN).close()
    pf_user.open(pf)
    with refused(EACCES):
        vf_user.open(vf)
    assert vf_user.open(vf, TOKEN)


@claim("A06")
def test_pf_user_sets_the_token_by_opening_the_pf_with_it(pf_user, vf_user, pf, vf):
    """While no VF is in use, a token presented for the PF becomes its token."""
    pf_user.open(pf, TOKEN).close()
    pf_user.open(pf, OTHER)
    with refused(EACCES):
        vf_user.open(vf, TOKEN)
    assert vf_user.open(vf, OTHER)


@claim("A07")
def test_the_token_is_stored_even_when_the_pf_does_not_open(pf_user, vf_user, pf, vf):
    """A PF's new token is stored when the name matches, even if the open then fails."""
    with refused(EINVAL):
        pf_user.open_group(pf).get_device_fd(f"{pf} vf_token={TOKEN}")
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A08")
def test_the_token_is_checked_before_the_container(pf_user, vf_user, pf, vf):
    """In a group without a container, a missing token is reported first."""
    pf_user.open(pf, TOKEN)
    bare_group = vf_user.open_group(vf)
    with refused(EACCES):
        bare_group.get_device_fd(str(vf))
    with refused(EINVAL):
        bare_group.get_device_fd(f"{vf} vf_token={TOKEN}")
