"""What a bzImage says of itself, and the vmlinux inside."""

import gzip
import os
from pathlib import Path

import pytest
from support.kernel_files import PVH_NOTE, bzimage

from vfio_lab.errors import UsageError
from vfio_lab.kernels.bzimage import BzImage

BOOKWORM = (
    "6.1.0-56-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC"
    " Debian 6.1.192-2 (2026-11-16)"
)


@pytest.mark.parametrize(
    ("banner", "release", "version"),
    [
        (BOOKWORM, "6.1.0-56-amd64", (6, 1, 192)),
        (
            BOOKWORM.replace("6.1.0-56-amd64", "6.1.0-56-cloud-amd64"),
            "6.1.0-56-cloud-amd64",
            (6, 1, 192),
        ),
        (
            "6.12.118+deb13-amd64 (d@d) #1 SMP Debian 6.12.118-1 (x)",
            "6.12.118+deb13-amd64",
            (6, 12, 118),
        ),
        ("6.17.4-300.fc43.x86_64 (mockbuild@x) #1 SMP", "6.17.4-300.fc43.x86_64", (6, 17, 4)),
        ("7.4.0-rc2+ (me@debian) #3", "7.4.0-rc2+", (7, 4, 0)),
    ],
)
def test_the_stable_version_is_in_the_banner(tmp_path, banner, release, version):
    image = BzImage.read(bzimage(tmp_path / "vmlinuz", banner))
    assert (image.release, image.version) == (release, version)


def test_a_vmlinux_that_qemu_can_start_is_taken_out(tmp_path):
    image = BzImage.read(bzimage(tmp_path / "vmlinuz", vmlinux=b"\x7fELF code" + PVH_NOTE))
    assert image.vmlinux() == b"\x7fELF code" + PVH_NOTE


@pytest.mark.parametrize("inside", [b"\x7fELF without a note", b"no ELF" + PVH_NOTE])
def test_one_that_it_cannot_start_is_not(tmp_path, inside):
    assert BzImage.read(bzimage(tmp_path / "vmlinuz", vmlinux=inside)).vmlinux() is None


def test_an_image_that_ends_early_has_no_vmlinux(tmp_path):
    path = bzimage(tmp_path / "vmlinuz", vmlinux=b"\x7fELF" + PVH_NOTE + os.urandom(4096))
    path.write_bytes(path.read_bytes()[:-2048])
    assert BzImage.read(path).vmlinux() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"text", gzip.compress(b"x"), bytes(0x1000)],
    ids=["empty", "text", "gzip", "zeros"],
)
def test_what_is_no_bzimage_is_refused(tmp_path, content):
    path = Path(tmp_path / "vmlinuz")
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is no bzImage"):
        BzImage.read(path)


def test_one_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        BzImage.read(tmp_path / "vmlinuz")
