"""The registry of changes: which version carries what, and whether the data is sound."""

import gzip
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.changelog import releases_carrying

from vfio_lab.errors import UsageError
from vfio_lab.spec.changes import (
    Change,
    load_changes,
    parse_version,
)
from vfio_lab.util.cache import Cache

VF_DEV_SET = "e908f58b6beb"
CDEV_CHECK = "86624ba3b522"
DPKG_DEB = shutil.which("dpkg-deb")
TAR = shutil.which("tar")
HASH = re.compile(r"[0-9a-f]{12}")
CHANGELOG = """\
linux (6.12.43-1) unstable; urgency=medium

  * New upstream stable update:
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.12.42
    - vfio: Prevent open_count decrement to negative
    - [x86] vfio/pci: Separate SR-IOV
      VF dev_set (CVE-2025-00000)
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.12.43
    - vfio/type1: conditional rescheduling while pinning
    - Revert "vfio/pci: Separate SR-IOV VF dev_set"

  [ Somebody ]
  * vfio: Prevent open_count decrement to negative

 -- Somebody <somebody@example.org>  Fri, 15 Aug 2025 00:00:00 +0200
"""


@pytest.mark.parametrize(
    ("version", "carried"),
    [
        ("6.12.41", False),
        ("6.12.42", True),
        ("6.12.117", True),
        ("6.13.9", False),
        ("6.1.147", False),
        ("6.1.148", True),
        ("6.16", False),
        ("6.16.1", True),
        ("6.17", True),
        ("7.3.4", True),
    ],
)
def test_a_backport_counts_in_its_own_series_only(version, carried):
    assert load_changes()[VF_DEV_SET].in_version(parse_version(version)) is carried


@pytest.mark.parametrize(
    ("version", "carried"), [("6.12.117", False), ("6.16.12", False), ("6.17.0", True)]
)
def test_the_cdev_token_check_was_never_backported(version, carried):
    assert load_changes()[CDEV_CHECK].in_version(parse_version(version)) is carried


releases = st.tuples(st.integers(5, 8), st.integers(0, 20), st.integers(0, 200))


@given(mainline=releases, stable=st.lists(releases, max_size=4), version=releases)
def test_a_change_leaves_no_series_unless_it_is_reverted(mainline, stable, version):
    change = Change("x", "x", mainline, None, tuple(stable), (), "")
    later = (version[0], version[1], version[2] + 1)
    assert change.in_version(later) or not change.in_version(version)


@pytest.mark.parametrize(
    ("version", "carried"),
    [("6.12.74", False), ("6.12.75", True), ("6.12.83", False), ("6.12.117", False), ("7.0", True)],
)
def test_a_reverted_backport_is_gone_again(version, carried):
    assert load_changes()["acs-at-bind"].in_version(parse_version(version)) is carried


@pytest.mark.parametrize(
    ("version", "carried"), [("6.12.118", False), ("7.2.13", True), ("7.3", False), ("7.4", False)]
)
def test_a_change_that_a_later_commit_undid_is_gone_again(version, carried):
    change = load_changes()["ioeventfd-of-eight-bytes-refused"]
    assert change.in_version(parse_version(version)) is carried


@pytest.mark.parametrize(
    ("text", "version"), [("6.12.117", (6, 12, 117)), ("7.3.4-lab", (7, 3, 4)), ("6.17", (6, 17))]
)
def test_versions_are_read_from_release_strings(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "v6.12", "newest", "6"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(UsageError, match="version"):
        parse_version(text)


def test_an_unknown_change_is_answered_with_a_guess():
    with pytest.raises(UsageError, match=VF_DEV_SET):
        load_changes()["e908f58b6bec"]


def test_a_change_that_is_not_pinned_down_says_so():
    assert load_changes()["config-acs"].first_release() == "after 6.1, by 6.12"
    assert load_changes()[CDEV_CHECK].first_release() == "6.17"


@pytest.mark.parametrize("change", load_changes().values(), ids=lambda one: one.id)
def test_the_data_is_sound(change):
    assert change.subject
    assert change.evidence.endswith(".")
    assert change.after is None or change.after < change.mainline
    assert change.undone is None or change.undone > change.mainline
    assert all(one < change.mainline and len(one) == 3 for one in change.stable)
    assert len({one[:2] for one in change.stable}) == len(change.stable)
    assert {one[:2] for one in change.reverted} <= {one[:2] for one in change.stable}
    looks_like_hash = set(change.id) <= set("0123456789abcdef")
    assert bool(HASH.fullmatch(change.id)) is looks_like_hash


def test_a_changelog_tells_the_release_of_a_subject():
    assert releases_carrying(CHANGELOG, "vfio/pci: Separate SR-IOV VF dev_set") == {"6.12.42"}
    assert releases_carrying(CHANGELOG, "vfio/type1: conditional rescheduling while pinning") == {
        "6.12.43"
    }


def test_debians_own_entries_are_no_stable_release():
    assert releases_carrying(CHANGELOG, "vfio: Prevent open_count decrement to negative") == {
        "6.12.42"
    }


def changelogs():
    """Return the Debian changelogs of the kernel sources in the cache, by package file."""
    packages = sorted(Cache.default().root.glob("source/*/linux-source-*.deb"))
    missing = pytest.mark.skip(reason="no kernel source package in the cache")
    return packages or [pytest.param(None, marks=missing)]


def read_changelog(package):
    """Read the changelog without unpacking the source, which comes after it in the package."""
    member = "./usr/share/doc/*/changelog.Debian.gz"
    with subprocess.Popen(
        [DPKG_DEB, "--fsys-tarfile", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as unpack:
        listing = subprocess.run(
            [TAR, "-xO", "--wildcards", "--occurrence=1", member],
            stdin=unpack.stdout,
            capture_output=True,
            check=True,
            timeout=60,
        )
        unpack.stdout.close()
    return gzip.decompress(listing.stdout).decode()


@pytest.mark.skipif(DPKG_DEB is None or TAR is None, reason="no dpkg-deb or tar on this host")
@pytest.mark.parametrize("package", changelogs(), ids=lambda one: one.name if one else "none")
def test_backports_are_those_that_the_packaged_changelog_lists(package):
    changelog = read_changelog(package)
    series = re.match(r"linux-source-(\d+\.\d+)_(\d+\.\d+\.\d+)", package.name)
    newest = parse_version(series[2])
    for change in load_changes().values():
        stated = {one for one in change.stable if one[:2] == newest[:2] and one <= newest}
        listed = {
            parse_version(one)
            for one in releases_carrying(changelog, change.subject)
            if parse_version(one)[:2] == newest[:2]
        }
        assert stated == listed, change
