"""Does the kernel parse every option string as its grammar says?

The grammar is written here a second time, as a regular expression. Hypothesis generates strings
close to it, and the kernel and the expression must agree on each.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match().
"""

import re
from errno import EACCES, EINVAL, ENODEV

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import outcome

STRINGS = 2000
UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
# Options: nothing but spaces, or one token among spaces.
OPTIONS = re.compile(rf"( +vf_token=(?P<token>{UUID}))? *", re.ASCII)

tokens = st.sampled_from(
    [str(TOKEN), str(OTHER), str(TOKEN).upper(), str(OTHER).title(), str(TOKEN)[:35], "", "x" * 36]
)
mangled = st.builds(
    lambda token, at, char: token[:at] + char + token[at + 1 :],
    tokens,
    st.integers(0, 36),
    st.sampled_from([*"0fFgG-_{} \t=", "", "--"]),
)
keys = st.sampled_from(["vf_token=", "vf_token", "VF_TOKEN=", "foo=", "=", "vf_token =", ""])
blanks = st.sampled_from([" ", " ", "", "  ", "\t", "\n", "      "])
words = st.tuples(blanks, keys, st.one_of(tokens, mangled), blanks).map("".join)
noise = st.text(st.characters(min_codepoint=1, max_codepoint=126), max_size=60)
usual = st.builds(lambda token, end: f" vf_token={token}{end}", tokens, blanks)
strings = st.one_of(usual, words, st.lists(words, max_size=3).map("".join), noise)

THOROUGHLY = settings(
    max_examples=STRINGS,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def expected(text: str) -> int:
    """Return the errno that the grammar predicts for a VF and `text`, 0 for a descriptor."""
    if text and not text.startswith(" "):
        return ENODEV
    match = OPTIONS.fullmatch(text)
    if match is None:
        return EINVAL
    return 0 if (match["token"] or "").lower() == str(TOKEN) else EACCES


@pytest.fixture
def ask(pf_user, pf, vf, vf_group):
    """VFIO_GROUP_GET_DEVICE_FD on a VF that is in use: another open does not reset it."""
    pf_user.open(pf, TOKEN)
    vf_group.get_device_fd(f"{vf} vf_token={TOKEN}")
    return vf_group.get_device_fd


@claim("A21", "A22", "A23", "A24", "A25", "A26", "A27", "A28", "A29")
def test_the_kernel_reads_options_as_the_grammar_says(ask, vf):
    """The kernel and an independent grammar agree on names and options."""
    verdicts = set()

    @THOROUGHLY
    @given(strings)
    def agree(text):
        seen = outcome(lambda: ask(f"{vf}{text}").close())
        verdicts.add(seen)
        assert seen == expected(text), f"{text!r}"

    agree()
    assert verdicts == {0, EACCES, EINVAL, ENODEV}
