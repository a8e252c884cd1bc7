"""How does VFIO_DEVICE_BIND_IOMMUFD check a token?

The cdev path was introduced without the check (6.6) and got it later (6.17).
Kernel: drivers/vfio/device_cdev.c, vfio_df_ioctl_bind_iommufd() and vfio_df_check_token();
drivers/iommu/iommufd/main.c, iommufd_ctx_from_fd().
"""

import functools
from errno import E2BIG, EACCES, EBADF, EBADFD, EFAULT, EINVAL

import pytest

from vfio_lab.client.memory import NOWHERE
from vfio_lab.uapi.vfio import VFIO_DEVICE_BIND_FLAG_TOKEN
from vfio_lab.vfio import Cdev, Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import all_refused, refused

NO_FD = 999  # a descriptor that no user has open
NO_POINTER = {"token": None, "token_pointer": NOWHERE}
INVALID_BINDS = {
    "argsz below the first struct": {"argsz": 15},
    "no argsz": {"argsz": 0},
    "unknown flag": {"flags": VFIO_DEVICE_BIND_FLAG_TOKEN | 2},
    "negative iommufd": {"iommufd": -1},
}


@pytest.fixture
def iommufd(vf_user):
    """The VF user's iommufd."""
    return Iommufd(vf_user)


@pytest.fixture
def cdev(pf_user, vf_user, pf, vf):
    """The VF's cdev, open and not bound; the PF's user has set TOKEN."""
    pf_user.open(pf, TOKEN)
    return Cdev(vf_user, vf.cdev)


@claim("A38")
def test_a_vf_binds_without_any_token(cdev, iommufd):
    """Kernels before the token check let any user bind a VF on the cdev path."""
    assert cdev.bind_iommufd(iommufd) > 0


@claim("A38")
def test_a_pf_of_a_used_vf_binds_without_any_token(pf_user, vf_user, pf, vf):
    """Kernels before the token check let any user bind a PF whose VF is in use."""
    pf_user.open(pf, TOKEN).close()
    vf_user.open(vf, TOKEN)
    assert pf_user.open(pf, access="cdev")


@claim("A39")
@pytest.mark.parametrize("presented", [None, OTHER], ids=["no token", "wrong token"])
def test_a_bind_needs_the_token(cdev, iommufd, presented):
    """A bind needs the same token as an open by the group; a refused bind can be repeated."""
    with refused(EACCES):
        cdev.bind_iommufd(iommufd, presented)
    assert cdev.bind_iommufd(iommufd, TOKEN) > 0


@claim("A39")
def test_a_token_without_its_flag_is_ignored(cdev, iommufd):
    """The kernel reads the token pointer only if the token flag is set."""
    with refused(EACCES):
        cdev.bind_iommufd(iommufd, TOKEN, flags=0)
    assert cdev.bind_iommufd(iommufd, TOKEN) > 0


@claim("A39")
def test_a_refused_bind_does_not_block_the_group(vf_user, vf, cdev, iommufd):
    """A bind refused for its token does not block the group path."""
    with refused(EACCES):
        cdev.bind_iommufd(iommufd)
    assert vf_user.open(vf, TOKEN)


@claim("A39")
def test_a_pf_takes_its_token_from_a_bind(pf_user, vf_user, pf, vf):
    """A PF's user sets the token by binding with it, for VF users of both paths."""
    pf_user.open(pf, TOKEN, access="cdev")
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A40")
def test_the_token_flag_is_unknown(cdev, iommufd):
    """A kernel without the token check refuses the token flag, and binds without it."""
    with refused(EINVAL):
        cdev.bind_iommufd(iommufd, TOKEN)
    assert cdev.bind_iommufd(iommufd) > 0


@claim("A41")
def test_malformed_binds_are_refused(cdev, iommufd):
    """Each malformed argument has its own errno and does not affect the next bind."""
    bind = functools.partial(cdev.bind_iommufd, iommufd=iommufd, token=TOKEN)
    all_refused(EINVAL, bind, INVALID_BINDS)
    with refused(E2BIG):
        bind(tail=b"\1" * 8)
    with refused(EBADF):
        bind(iommufd=NO_FD)
    all_refused(EFAULT, bind, {"no pointer": {"argsz": 16}, "pointer to nowhere": NO_POINTER})
    assert cdev.bind_iommufd(iommufd, TOKEN) > 0


@claim("A41")
def test_a_malformed_bind_of_a_pf_sets_no_token(pf_user, vf_user, pf, vf):
    """A bind with a malformed struct does not set the token in it."""
    pf_user.open(pf, TOKEN).close()
    bind = functools.partial(Cdev(pf_user, pf.cdev).bind_iommufd, iommufd=NO_FD, token=OTHER)
    all_refused(EINVAL, bind, INVALID_BINDS)
    vf_user.open(vf, TOKEN).close()
    pf_user.open(pf, OTHER, access="cdev")
    assert vf_user.open(vf, OTHER)


@claim("A39")
def test_a_second_bind_sets_no_token(pf_user, vf_user, pf, vf):
    """A second bind of a descriptor is refused and does not set its token."""
    bound = pf_user.open(pf, TOKEN, access="cdev")
    with refused(EINVAL):
        bound.bind_iommufd(bound.iommufd, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A41")
def test_zero_bytes_beyond_the_struct_are_accepted(cdev, iommufd):
    """A longer struct of a later kernel is accepted if the additional bytes are zero."""
    assert cdev.bind_iommufd(iommufd, TOKEN, tail=bytes(8)) > 0


@claim("A41")
def test_a_bind_to_another_file_than_an_iommufd_is_refused(vf_user, cdev, iommufd):
    """A bind to a descriptor that is not an iommufd fails with EBADFD."""
    with refused(EBADFD):
        cdev.bind_iommufd(vf_user.open_path("/dev/null"), TOKEN)
    assert cdev.bind_iommufd(iommufd, TOKEN) > 0


@claim("A41")
def test_a_device_of_a_group_cannot_be_bound(pf_user, vf_user, pf, vf, iommufd):
    """VFIO_DEVICE_BIND_IOMMUFD fails on a descriptor that came from a group."""
    pf_user.open(pf, TOKEN)
    by_group = vf_user.open(vf, TOKEN)
    with refused(EINVAL):
        Cdev.bind_iommufd(by_group, iommufd, TOKEN)
    by_group.close()
    assert vf_user.open(vf, TOKEN, access="cdev")


@claim("A42")
def test_a_pf_takes_the_token_of_a_bind_that_fails(pf_user, vf_user, pf, vf):
    """A bind of a PF stores the token before it looks up the iommufd."""
    with refused(EBADF):
        Cdev(pf_user, pf.cdev).bind_iommufd(NO_FD, TOKEN)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)
