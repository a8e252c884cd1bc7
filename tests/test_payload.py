"""What travels into every guest: the same bytes for the same input, and nothing for others."""

import base64
import shutil
import subprocess
import tarfile

import pytest

from vfio_lab.image import payload
from vfio_lab.util.cache import Cache

CONTENT = {"boot": b"#!/bin/sh\n", "agent": b"\x7fELF", "ssh_host_ed25519_key": b"secret"}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_the_same_files_make_the_same_bytes(tmp_path):
    for name, content in (("one", CONTENT), ("other", dict(reversed(CONTENT.items())))):
        payload.pack_tar(content, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert payload.payload_digest(CONTENT) == payload.payload_digest(
        dict(reversed(CONTENT.items()))
    )


@pytest.mark.parametrize("change", [{"boot": b"other"}, {"extra": b""}])
def test_other_files_have_another_digest(change):
    assert payload.payload_digest(CONTENT | change) != payload.payload_digest(CONTENT)


def test_what_is_packed_is_for_the_guests_root_alone(tmp_path):
    path = tmp_path / "payload.tar"
    payload.pack_tar(CONTENT, path)
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        modes = {member.name: member.mode for member in archive}
        owners = {(member.uid, member.gid, member.mtime) for member in archive}
    assert modes == {"boot": 0o700, "agent": 0o700, "ssh_host_ed25519_key": 0o600}
    assert owners == {(0, 0, 0)}


def test_the_guests_tar_unpacks_it(tmp_path):
    payload.pack_tar(CONTENT, tmp_path / "payload.tar")
    target = tmp_path / "there"
    target.mkdir()
    subprocess.run(
        [shutil.which("tar"), "xf", tmp_path / "payload.tar", "-C", target, "--no-same-owner"],
        check=True,
    )
    found = {str(path.relative_to(target)): path for path in target.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == CONTENT


def test_the_agent_travels_whole(cache):
    content = payload.payload_files(cache)
    assert content["agent"].startswith(b"\x7fELF")
    for name in ("settings", "boot"):
        subprocess.run(["/bin/sh", "-n"], input=content[name], check=True)
    assert b"vfio-pci" in content["settings"]


def test_keys_are_made_once_for_a_cache(cache, tmp_path):
    folder = payload.keys(cache)
    assert payload.keys(cache) == folder
    assert payload.payload_files(cache) == payload.payload_files(cache)
    other = payload.keys(Cache(tmp_path / "other"))
    assert (other / "user").read_bytes() != (folder / "user").read_bytes()


def test_private_keys_are_private(cache):
    folder = payload.keys(cache)
    assert [path for path in (folder, *folder.iterdir()) if path.stat().st_mode & 0o077] == []


def test_each_half_of_a_key_fits_the_other(cache):
    folder = payload.keys(cache)
    for name in ("host", "user"):
        kind, text, comment = (folder / f"{name}.pub").read_text().split()
        assert (kind, comment) == ("ssh-ed25519", "vfio-lab")
        public = base64.b64decode(text)
        private = b"".join((folder / name).read_bytes().splitlines()[1:-1])
        assert public in base64.b64decode(private)


def test_the_guest_gets_the_halves_it_needs(cache):
    content, folder = payload.payload_files(cache), payload.keys(cache)
    assert content["ssh_host_ed25519_key"] == (folder / "host").read_bytes()
    assert content["authorized_keys"] == (folder / "user.pub").read_bytes()
    assert (folder / "user").read_bytes() not in content.values()
