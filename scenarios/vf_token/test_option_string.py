"""What may stand behind a device's name?

Thread: 2020-vf-token (space separated key=value options; unknown or unused ones are errors).
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match(); lib/uuid.c, uuid_parse().
"""

from errno import EACCES, EFAULT, EINVAL, ENODEV

import pytest

from fixtures.claims import claim
from fixtures.tokens import OTHER, TOKEN
from fixtures.verdicts import refused

T = str(TOKEN)
PAGE_BYTES = 4096
NOWHERE = 0x10  # an address no process maps


@pytest.fixture
def shared_group(pf_user, pf, vf_group):
    """The VF's group; the PF's user has set TOKEN."""
    pf_user.open(pf, TOKEN)
    return vf_group


@claim("A21")
@pytest.mark.parametrize(
    "name",
    ["{vf}x", "{vf}\t", "{vf}\n", "{vf}\0x", " {vf}", "{vf},vf_token=" + T, "{vf}\tvf_token=" + T],
)
def test_a_name_with_anything_glued_to_it_is_another_device(shared_group, vf, name):
    """Only a space or the end may follow the name."""
    with refused(EACCES if "\0" in name else ENODEV):
        shared_group.get_device_fd(name.format(vf=vf))
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A21")
@pytest.mark.parametrize(
    "name", ["", " ", "{vf!s:.1}", "{vf!s:.11}", "{vf!s:.11}7", "{vf!s:.11}7 "]
)
def test_a_name_that_is_nearly_right_is_another_device(shared_group, vf, name):
    """A name is compared to its last character."""
    with refused(ENODEV):
        shared_group.get_device_fd(name.format(vf=vf))
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A22")
@pytest.mark.parametrize(
    "options",
    [
        "foo=bar",
        "VF_TOKEN=" + T,
        "Vf_token=" + T,
        "vf_token",
        "vf_token:" + T,
        "vf_tokens=" + T,
        "token=" + T,
        "=" + T,
        T,
        f"vf_token={T} foo=bar",
        f"foo=bar vf_token={T}",
        f"vf_token={T} x",
    ],
)
def test_an_unknown_option_is_invalid(shared_group, vf, options):
    """Keys are spelt as they are, and a stranger beside a good token spoils it."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} {options}")
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A23")
@pytest.mark.parametrize("second", [T, str(OTHER)], ids=["the same", "another"])
def test_a_second_token_is_invalid(shared_group, vf, second):
    """One token is all there may be."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} vf_token={T} vf_token={second}")
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A24")
@pytest.mark.parametrize("short", ["", T[:1], T[:35], T[1:], " " + T], ids=repr)
def test_a_token_that_is_too_short_is_invalid(shared_group, vf, short):
    """A UUID has 36 characters."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} vf_token={short}")
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A25")
@pytest.mark.parametrize(
    "malformed",
    [
        T.replace("-", "_"),
        T.replace("-", ""),
        T.replace("-", "", 1) + "0",
        "{" + T + "}",
        "{" + T[:34] + "}",
        "urn:uuid:" + T,
        "g" + T[1:],
        T[:-1] + "g",
        T[:8] + "0" + T[9:],
        T[:9] + "-" + T[10:],
        "-" * 36,
    ],
)
def test_a_token_of_another_form_is_invalid(shared_group, vf, malformed):
    """Only 8-4-4-4-12 hex digits are a UUID."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} vf_token={malformed}")
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A26", "A28")
@pytest.mark.parametrize("glued", ["junk", "0", ",x", ";", "\t", "\n", "=", "-"], ids=repr)
def test_a_token_with_anything_glued_to_it_is_invalid(shared_group, vf, glued):
    """Only a space or the end may follow a token."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} vf_token={T}{glued}")
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A27")
@pytest.mark.parametrize("before", [" ", "   "], ids=["one", "many"])
@pytest.mark.parametrize("after", ["", " ", "    "], ids=["none", "one", "many"])
def test_spaces_around_the_token_do_not_matter(shared_group, vf, before, after):
    """Any number of spaces separates, and any number may end the string."""
    with refused(EACCES):
        shared_group.get_device_fd(f"{vf}{before}vf_token={OTHER}{after}")
    assert shared_group.get_device_fd(f"{vf}{before}vf_token={T}{after}")


@claim("A27")
@pytest.mark.parametrize("spaces", [" ", "      "], ids=["one", "many"])
def test_a_name_followed_by_spaces_has_no_options(pf_group, vf_group, pf, vf, spaces):
    """Trailing spaces are no token for a VF and no harm to a free PF."""
    assert pf_group.get_device_fd(f"{pf}{spaces}")
    with refused(EACCES):
        vf_group.get_device_fd(f"{vf}{spaces}")


@claim("A28")
@pytest.mark.parametrize("blank", ["\t", "\n", "\v", "\f", "\r", "\u00a0"], ids=repr)
def test_other_blanks_are_no_separators(shared_group, vf, blank):
    """Only the space separates options."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} {blank}vf_token={T}")
    assert shared_group.get_device_fd(f"{vf}  vf_token={T}")


@claim("A29")
@pytest.mark.parametrize("spelling", [str.upper, str.lower, str.title, str.swapcase])
def test_the_case_of_hex_digits_does_not_matter(shared_group, vf, spelling):
    """Tokens are compared as 16 bytes."""
    with refused(EACCES):
        shared_group.get_device_fd(f"{vf} vf_token={spelling(str(OTHER))}")
    assert shared_group.get_device_fd(f"{vf} vf_token={spelling(T)}")


@claim("A29")
def test_a_token_set_in_capitals_opens_in_small_letters(pf_user, vf_user, pf, vf):
    """The PF's user may spell the token differently too."""
    pf_user.open(pf, options=f"vf_token={T.upper()}")
    with refused(EACCES):
        vf_user.open(vf, OTHER)
    assert vf_user.open(vf, options=f"vf_token={T}")


@claim("A30")
def test_the_string_fits_a_page_with_its_nul(shared_group, vf):
    """One page is the most a name with its options may take."""
    with refused(EINVAL):
        shared_group.get_device_fd(f"{vf} vf_token={T}".ljust(PAGE_BYTES))
    assert shared_group.get_device_fd(f"{vf} vf_token={T}".ljust(PAGE_BYTES - 1))


@claim("A30")
def test_a_string_at_a_bad_address_faults(shared_group, vf):
    """The string must be readable memory."""
    with refused(EFAULT):
        shared_group.get_device_fd(str(vf), pointer=NOWHERE)
    assert shared_group.get_device_fd(f"{vf} vf_token={T}")


@claim("A22", "A24")
@pytest.mark.parametrize("options", ["foo=bar", "vf_token=", "vf_token=" + T[:35]])
def test_a_malformed_option_for_the_pf_sets_no_token(pf_user, vf_user, pf, vf, options):
    """A PF refused for its options keeps the token it had."""
    pf_user.open(pf, TOKEN).close()
    with refused(EINVAL):
        pf_user.open(pf, options=options)
    assert vf_user.open(vf, TOKEN)


@claim("A22")
def test_an_option_for_a_device_of_another_name_is_not_read(shared_group, pf):
    """Names are compared first: a foreign name is ENODEV, however wrong its options are."""
    with refused(ENODEV):
        shared_group.get_device_fd(f"{pf} foo=bar")
