"""What may follow a device's name?

Thread: 2020-vf-token (space separated key=value options; unknown or unused ones are errors).
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match(); lib/uuid.c, uuid_parse().
"""

from errno import EACCES, EFAULT, EINVAL, ENODEV

import pytest

from vfio_lab.client.memory import NOWHERE, PAGE_BYTES
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import all_refused, refused

T = str(TOKEN)


@pytest.fixture
def shared_group(pf_user, pf, vf_group):
    """The VF's group; the PF's user has set TOKEN."""
    pf_user.open(pf, TOKEN)
    return vf_group


@pytest.fixture
def ask(shared_group):
    """VFIO_GROUP_GET_DEVICE_FD on the VF's group."""
    return shared_group.get_device_fd


@claim("A21")
def test_a_name_with_extra_characters_is_another_device(ask, vf):
    """Only a space or the end may follow a device name, and nothing may precede it."""
    glued = [f"{vf}x", f"{vf}\t", f"{vf}\n", f" {vf}", f"{vf},vf_token={T}", f"{vf}\tvf_token={T}"]
    all_refused(ENODEV, ask, glued)
    assert ask(f"{vf} vf_token={T}")


@claim("A21")
def test_a_name_ends_at_its_nul(ask, vf):
    """Characters after a NUL are not read, so a token there does not count."""
    with refused(EACCES):
        ask(f"{vf}\0 vf_token={T}")
    assert ask(f"{vf} vf_token={T}\0x")


@claim("A21")
def test_a_name_that_is_nearly_right_is_another_device(ask, vf):
    """Device names are compared up to their last character."""
    name = str(vf)
    all_refused(ENODEV, ask, ["", " ", name[:1], name[:-1], f"{name[:-1]}7", f"{name[:-1]}7 "])
    assert ask(f"{vf} vf_token={T}")


@claim("A22")
def test_an_unknown_option_is_invalid(ask, vf):
    """A misspelt option is refused, and so is an unknown option beside a correct token."""
    misspelt = ["VF_TOKEN=", "Vf_token=", "vf_token:", "vf_tokens=", "token=", "=", ""]
    strangers = [f"vf_token={T} foo=bar", f"foo=bar vf_token={T}", f"vf_token={T} x"]
    options = ["foo=bar", "vf_token", *(key + T for key in misspelt), *strangers]
    all_refused(EINVAL, ask, [f"{vf} {one}" for one in options])
    assert ask(f"{vf} vf_token={T}")


@claim("A23")
def test_a_second_token_is_invalid(ask, vf):
    """A second token is refused, whether it is the same or another one."""
    all_refused(EINVAL, ask, [f"{vf} vf_token={T} vf_token={second}" for second in (T, OTHER)])
    assert ask(f"{vf} vf_token={T}")


@claim("A24")
def test_a_token_that_is_too_short_is_invalid(ask, vf):
    """A token with fewer than 36 characters is refused."""
    all_refused(EINVAL, ask, [f"{vf} vf_token={one}" for one in ("", T[0], T[:35], T[1:], " " + T)])
    assert ask(f"{vf} vf_token={T}")


@claim("A25")
def test_a_token_of_another_format_is_invalid(ask, vf):
    """A token that is not 8-4-4-4-12 hex digits is refused."""
    dashes = [T.replace("-", "_"), T.replace("-", ""), T.replace("-", "", 1) + "0", "-" * 36]
    wrapped = ["{" + T + "}", "{" + T[:34] + "}", "urn:uuid:" + T]
    digits = ["g" + T[1:], T[:-1] + "g", T[:8] + "0" + T[9:], T[:9] + "-" + T[10:]]
    all_refused(EINVAL, ask, [f"{vf} vf_token={one}" for one in dashes + wrapped + digits])
    assert ask(f"{vf} vf_token={T}")


@claim("A26", "A28")
def test_a_token_with_extra_characters_is_invalid(ask, vf):
    """Only a space or the end may follow a token."""
    glued = ["junk", "0", ",x", ";", "\t", "\n", "=", "-"]
    all_refused(EINVAL, ask, [f"{vf} vf_token={T}{one}" for one in glued])
    assert ask(f"{vf} vf_token={T}")


@claim("A27")
@pytest.mark.parametrize("before", [" ", "   "], ids=["one", "many"])
def test_spaces_around_the_token_do_not_matter(ask, vf, before):
    """Any number of spaces may separate the options and end the string."""
    all_refused(EACCES, ask, [f"{vf}{before}vf_token={OTHER}{' ' * many}" for many in (0, 1, 4)])
    assert all(ask(f"{vf}{before}vf_token={T}{' ' * many}") for many in (0, 1, 4))


@claim("A27")
def test_a_name_followed_by_spaces_has_no_options(pf_group, vf_group, pf, vf):
    """A name followed only by spaces has no token: a free PF opens, a VF does not."""
    assert pf_group.get_device_fd(f"{pf} ")
    assert pf_group.get_device_fd(f"{pf}      ")
    all_refused(EACCES, vf_group.get_device_fd, [f"{vf} ", f"{vf}      "])


@claim("A28")
def test_tabs_are_no_separators(ask, vf):
    """Tabs and other white space do not separate options."""
    blanks = ["\t", "\n", "\v", "\f", "\r", "\u00a0"]
    all_refused(EINVAL, ask, [f"{vf} {blank}vf_token={T}" for blank in blanks])
    assert ask(f"{vf}  vf_token={T}")


@claim("A29")
def test_the_case_of_hex_digits_does_not_matter(ask, vf):
    """The case of a token's hex digits does not matter."""
    spellings = [str.upper, str.lower, str.title, str.swapcase]
    all_refused(EACCES, ask, [f"{vf} vf_token={spelt(str(OTHER))}" for spelt in spellings])
    assert all(ask(f"{vf} vf_token={spelt(T)}") for spelt in spellings)


@claim("A29")
def test_a_token_set_in_upper_case_opens_in_lower_case(pf_user, vf_user, pf, vf):
    """A token set in upper case opens a VF in lower case."""
    pf_user.open(pf, options=f"vf_token={T.upper()}")
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, options=f"vf_token={T}")


@claim("A30")
def test_the_string_fits_a_page_with_its_nul(shared_group, vf):
    """A name with its options may fill one page including the NUL, and no more."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} vf_token={T}".ljust(PAGE_BYTES))
    assert shared_group.get_device_fd(f"{vf} vf_token={T}".ljust(PAGE_BYTES - 1))


@claim("A30")
def test_a_string_at_a_bad_address_faults(shared_group, vf):
    """A string at an unreadable address fails with EFAULT."""
    with refused(EFAULT):
        shared_group.get_device_fd(str(vf), pointer=NOWHERE)
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A22", "A24")
def test_a_malformed_option_for_the_pf_sets_no_token(vf_user, pf, pf_group, vf):
    """A PF that is refused for malformed options keeps its token."""
    pf_group.get_device_fd(f"{pf} vf_token={T}")
    malformed = ["foo=bar", "vf_token=", f"vf_token={T[:35]}", f"vf_token={OTHER} foo=bar"]
    all_refused(EINVAL, pf_group.get_device_fd, [f"{pf} {options}" for options in malformed])
    assert vf_user.open(vf, TOKEN)


@claim("A22")
def test_an_option_for_a_device_of_another_name_is_not_read(shared_group, pf):
    """A name of another device fails with ENODEV, even if its options are wrong."""
    with refused(ENODEV):
        shared_group.get_device_fd(f"{pf} foo=bar")
