"""What does VFIO_DEVICE_FEATURE_PCI_VF_TOKEN allow?

Thread: 2020-vf-token (a token may be set after the open, and never be read).
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_feature_token(); include/linux/vfio.h,
vfio_check_feature().
"""

from errno import EACCES, EFAULT, EINVAL, ENOTTY

import pytest

from fixtures.claims import claim
from fixtures.tokens import OTHER, TOKEN
from fixtures.verdicts import refused
from lab.uapi.vfio import (
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    vfio_device_feature,
)

GET, SET, PROBE = VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE
FEATURE = VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
HEADER_BYTES = 8
PAGE_BYTES = 4096
NOWHERE = 0x10  # an address no process maps


@claim("A33")
def test_pf_user_sets_the_token_of_an_open_pf(pf_user, vf_user, pf, vf):
    """The feature installs a token without another open."""
    pf_user.open(pf, OTHER).set_vf_token(TOKEN)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A33")
def test_pf_user_changes_the_token_under_vfs_in_use(pf_user, vf_user, pf, vf, other_vf):
    """The feature asks for no old token; open VFs go on, new opens need the new token."""
    pf_fd, vf_fd = pf_user.open(pf, OTHER), vf_user.open(vf, OTHER)
    pf_fd.set_vf_token(TOKEN)
    with refused(EACCES):
        vf_user.open(other_vf, OTHER)
    assert vf_user.open(other_vf, TOKEN)
    assert vf_fd.get_info().num_regions > 0


@claim("A33")
def test_the_pf_too_needs_the_token_that_the_feature_set(pf_user, vf_user, pf, vf):
    """A token set while VFs are in use rules the next open of the PF."""
    pf_fd = pf_user.open(pf, OTHER)
    vf_user.open(vf, OTHER)
    pf_fd.set_vf_token(TOKEN)
    with refused(EACCES):
        pf_fd.group.get_device_fd(f"{pf} vf_token={OTHER}")
    assert pf_fd.group.get_device_fd(f"{pf} vf_token={TOKEN}")


@claim("A33")
def test_bytes_beyond_the_token_are_not_read(pf_user, vf_user, pf, vf):
    """The argument may be longer than a token; its first 16 bytes count."""
    pf_user.open(pf, OTHER).feature(FEATURE, SET, TOKEN.bytes + OTHER.bytes)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A34")
@pytest.mark.parametrize("flags", [GET, GET | PROBE, GET | SET | PROBE])
def test_nobody_reads_a_token(pf_user, pf, flags):
    """There is no GET, not even for the user who set the token."""
    pf_fd = pf_user.open(pf, TOKEN)
    with refused(EINVAL):
        pf_fd.feature(FEATURE, flags, bytes(16))
    assert pf_fd.feature(FEATURE, SET, TOKEN.bytes) == TOKEN.bytes


@claim("A35")
@pytest.mark.parametrize("flags", [PROBE, PROBE | SET])
def test_a_probe_finds_the_feature_on_a_pf(pf_user, pf, flags):
    """A PF on vfio-pci says that its token can be set."""
    pf_fd = pf_user.open(pf)
    with refused(ENOTTY):
        pf_fd.feature(FEATURE + 0x7FF, flags)
    pf_fd.feature(FEATURE, flags)


@claim("A35")
def test_a_probe_sets_nothing(pf_user, vf_user, pf, vf):
    """PROBE with SET only asks."""
    pf_user.open(pf, TOKEN).feature(FEATURE, PROBE | SET, OTHER.bytes)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A36")
@pytest.mark.parametrize("flags", [PROBE, PROBE | SET, PROBE | GET, SET, GET])
def test_a_vf_has_no_token_feature(pf_user, vf_user, pf, vf, flags):
    """Only a PF has a token to set."""
    pf_fd = pf_user.open(pf, TOKEN)
    with refused(ENOTTY):
        vf_user.open(vf, TOKEN).feature(FEATURE, flags, TOKEN.bytes)
    pf_fd.probe_feature(FEATURE, SET)


@claim("A36")
@pytest.mark.topology("igb-pair")
@pytest.mark.parametrize("flags", [PROBE, PROBE | SET, PROBE | GET, SET, GET])
def test_a_device_without_sriov_has_no_token_feature(pf_user, pf, nic, flags):
    """A NIC that is neither PF nor VF has no token to set."""
    with refused(ENOTTY):
        pf_user.open(nic).feature(FEATURE, flags, TOKEN.bytes)
    pf_user.open(pf).probe_feature(FEATURE, SET)


@claim("A37")
@pytest.mark.parametrize(
    ("flags", "argsz"),
    [
        pytest.param(SET, HEADER_BYTES - 1, id="argsz below the header"),
        pytest.param(SET, HEADER_BYTES + 15, id="argsz below a token"),
        pytest.param(SET, HEADER_BYTES, id="no token"),
        pytest.param(0, None, id="neither GET, SET nor PROBE"),
        pytest.param(GET | SET, None, id="GET and SET without PROBE"),
        pytest.param(SET | 1 << 19, None, id="unknown flag"),
        pytest.param(SET | 1 << 31, None, id="last unknown flag"),
    ],
)
def test_malformed_features_are_invalid(pf_user, vf_user, pf, vf, flags, argsz):
    """What is not a well-formed SET is EINVAL and sets nothing."""
    pf_fd = pf_user.open(pf, OTHER)
    with refused(EINVAL):
        pf_fd.feature(FEATURE, flags, TOKEN.bytes, argsz=argsz)
    assert vf_user.open(vf, OTHER)


@claim("A37")
def test_a_feature_at_a_bad_address_faults(pf_user, pf):
    """The argument must be readable memory."""
    pf_fd = pf_user.open(pf)
    with refused(EFAULT):
        pf_fd.ioctl(VFIO_DEVICE_FEATURE, NOWHERE)
    pf_fd.probe_feature(FEATURE)


@claim("A37")
def test_a_token_out_of_reach_faults(pf_user, vf_user, pf, vf):
    """A readable header is not enough, and what could not be read sets nothing."""
    pf_fd = pf_user.open(pf, TOKEN)
    page = pf_user.allocate(2 * PAGE_BYTES)
    pf_user.munmap(page + PAGE_BYTES, PAGE_BYTES)
    header = page + PAGE_BYTES - HEADER_BYTES
    pf_user.poke(header, bytes(vfio_device_feature(HEADER_BYTES + 16, SET | FEATURE)))
    with refused(EFAULT):
        pf_fd.ioctl(VFIO_DEVICE_FEATURE, header)
    assert vf_user.open(vf, TOKEN)
