"""What does VFIO_DEVICE_FEATURE_PCI_VF_TOKEN allow?

Thread: 2020-vf-token (a token may be set after the open, and never be read).
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_feature_token(); include/linux/vfio.h,
vfio_check_feature().
"""

import functools
from errno import EACCES, EFAULT, EINVAL, ENOTTY

import pytest

from vfio_lab.client.memory import NOWHERE, PAGE_BYTES
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    vfio_device_feature,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import all_refused, refused

GET, SET, PROBE = VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE
FEATURE = VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
HEADER_BYTES = 8
FLAGS = {"probe": PROBE, "probe SET": PROBE | SET, "probe GET": PROBE | GET, "SET": SET, "GET": GET}
EVERY_FLAG = {way: {"flags": flags} for way, flags in FLAGS.items()}
MALFORMED = {
    "argsz below the header": {"flags": SET, "argsz": HEADER_BYTES - 1},
    "argsz below a token": {"flags": SET, "argsz": HEADER_BYTES + 15},
    "no token": {"flags": SET, "argsz": HEADER_BYTES},
    "neither GET, SET nor PROBE": {"flags": 0},
    "GET and SET without PROBE": {"flags": GET | SET},
    "unknown flag": {"flags": SET | 1 << 19},
    "last unknown flag": {"flags": SET | 1 << 31},
}


@claim("A33")
def test_pf_user_sets_the_token_of_an_open_pf(pf_user, vf_user, pf, vf):
    """VFIO_DEVICE_FEATURE sets a token without another open of the PF."""
    pf_user.open(pf, OTHER).set_vf_token(TOKEN)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A33")
def test_pf_user_changes_the_token_under_vfs_in_use(pf_user, vf_user, pf, vf, other_vf):
    """A PF's user can change the token while VFs are in use: only new opens need the new one."""
    pf_fd, vf_fd = pf_user.open(pf, OTHER), vf_user.open(vf, OTHER)
    pf_fd.set_vf_token(TOKEN)
    with refused(EACCES):
        vf_user.open(other_vf, OTHER)
    assert vf_user.open(other_vf, TOKEN)
    assert vf_fd.get_info().num_regions > 0


@claim("A33")
def test_the_pf_too_needs_the_token_that_the_feature_set(pf_user, vf_user, pf, vf):
    """A token set while VFs are in use applies to the next open of the PF, too."""
    pf_fd = pf_user.open(pf, OTHER)
    vf_user.open(vf, OTHER)
    pf_fd.set_vf_token(TOKEN)
    with refused(EACCES):
        pf_fd.group.get_device_fd(f"{pf} vf_token={OTHER}")
    assert pf_fd.group.get_device_fd(f"{pf} vf_token={TOKEN}")


@claim("A33")
def test_bytes_beyond_the_token_are_not_read(pf_user, vf_user, pf, vf):
    """The argument may be longer than a token; only its first 16 bytes are used."""
    pf_user.open(pf, OTHER).feature(FEATURE, SET, TOKEN.bytes + OTHER.bytes)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A34")
def test_the_token_cannot_be_read(pf_user, pf):
    """GET of the token feature is refused, even for the user who set the token."""
    feature = functools.partial(pf_user.open(pf, TOKEN).feature, FEATURE, data=bytes(16))
    ways = {"GET": GET, "probed": GET | PROBE, "with SET": GET | SET | PROBE}
    all_refused(EINVAL, feature, {way: {"flags": flags} for way, flags in ways.items()})
    assert feature(flags=SET, data=TOKEN.bytes) == TOKEN.bytes


@claim("A35")
def test_a_probe_finds_the_feature_on_a_pf(pf_user, pf):
    """PROBE of the token feature succeeds on a PF."""
    pf_fd = pf_user.open(pf)
    with refused(ENOTTY):
        pf_fd.feature(FEATURE + 0x7FF, PROBE)
    pf_fd.feature(FEATURE, PROBE)
    pf_fd.feature(FEATURE, PROBE | SET)


@claim("A35")
def test_a_probe_sets_nothing(pf_user, vf_user, pf, vf):
    """PROBE combined with SET does not set a token."""
    pf_user.open(pf, TOKEN).feature(FEATURE, PROBE | SET, OTHER.bytes)
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, TOKEN)


@claim("A36")
def test_a_vf_has_no_token_feature(pf_user, vf_user, pf, vf):
    """A VF has no token feature."""
    pf_fd = pf_user.open(pf, TOKEN)
    feature = functools.partial(vf_user.open(vf, TOKEN).feature, FEATURE, data=TOKEN.bytes)
    all_refused(ENOTTY, feature, EVERY_FLAG)
    pf_fd.probe_feature(FEATURE, SET)


@claim("A36")
@pytest.mark.topology("igb-pair")
def test_a_device_without_sriov_has_no_token_feature(pf_user, pf, nic):
    """A NIC that is neither PF nor VF has no token feature."""
    feature = functools.partial(pf_user.open(nic).feature, FEATURE, data=TOKEN.bytes)
    all_refused(ENOTTY, feature, EVERY_FLAG)
    pf_user.open(pf).probe_feature(FEATURE, SET)


@claim("A37")
def test_malformed_features_are_invalid(pf_user, vf_user, pf, vf):
    """A malformed SET fails with EINVAL and does not set a token."""
    pf_fd = pf_user.open(pf, OTHER)
    all_refused(EINVAL, functools.partial(pf_fd.feature, FEATURE, data=TOKEN.bytes), MALFORMED)
    assert vf_user.open(vf, OTHER)


@claim("A37")
def test_a_feature_at_a_bad_address_faults(pf_user, pf):
    """A token feature call at an unreadable address fails with EFAULT."""
    pf_fd = pf_user.open(pf)
    with refused(EFAULT):
        pf_fd.ioctl(VFIO_DEVICE_FEATURE, NOWHERE)
    pf_fd.probe_feature(FEATURE)


@claim("A37")
def test_an_unreadable_token_faults(pf_user, vf_user, pf, vf):
    """A token that cannot be read behind a readable header fails and is not set."""
    pf_fd = pf_user.open(pf, TOKEN)
    page = pf_user.allocate(2 * PAGE_BYTES)
    pf_user.munmap(page + PAGE_BYTES, PAGE_BYTES)
    header = page + PAGE_BYTES - HEADER_BYTES
    pf_user.poke(header, bytes(vfio_device_feature(HEADER_BYTES + 16, SET | FEATURE)))
    with refused(EFAULT):
        pf_fd.ioctl(VFIO_DEVICE_FEATURE, header)
    assert vf_user.open(vf, TOKEN)
