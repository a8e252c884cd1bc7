"""What a guest inside the guest boots: packed as the kernel reads it, the same every time."""

import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from vfio_lab.image import initramfs
from vfio_lab.util import host
from vfio_lab.util.cache import Cache

EPOCH = 1735689600
pytestmark = pytest.mark.skipif(
    bool(host.missing("image")) or host.which("mksquashfs") is None,
    reason="needs cpio and squashfs-tools: not installed",
)


def tool(name, *words, **how):
    return subprocess.run([host.which(name), *words], check=True, capture_output=True, **how).stdout


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def squashed(folder):
    path = folder.with_suffix(".squashfs")
    tool("mksquashfs", folder, path, "-no-progress", "-all-root")
    return path


@pytest.fixture
def image(tmp_path):
    root = fill(tmp_path / "root", *initramfs.PROGRAMS, "usr/bin/python3", "etc/passwd")
    fill(root, f"{initramfs.LIBRARIES}/libmnl.so.0.2.0", f"{initramfs.LIBRARIES}/libssl.so.3")
    (root / initramfs.LIBRARIES / "libmnl.so.0").symlink_to("libmnl.so.0.2.0")
    return SimpleNamespace(name="clients", digest="a", path=squashed(root))


@pytest.fixture
def kernel(tmp_path):
    names = ("modules.dep", "kernel/drivers/net/igb/igb.ko", "kernel/drivers/vfio/vfio.ko")
    tree = fill(tmp_path / "modules", *(f"7.3.4-lab/{name}" for name in names))
    return SimpleNamespace(digest="b", modules=squashed(tree))


def listed(archive):
    """Return what cpio says of each member: mode, owner, time, and where a link points."""
    lines = tool("cpio", "-tv", "--numeric-uid-gid", input=archive.read_bytes()).decode()
    return {line.split()[8]: line.split() for line in lines.splitlines()}


def test_programs_drivers_and_what_they_need_are_in_it_and_nothing_else(image, kernel, tmp_path):
    made = initramfs.ensure_initramfs(Cache(tmp_path / "cache"), image, kernel)
    listing = listed(made)
    modules, libraries = "usr/lib/modules/7.3.4-lab", initramfs.LIBRARIES
    files = {name for name, words in listing.items() if words[0].startswith("-")}
    assert files == {
        "init",
        *initramfs.PROGRAMS,
        f"{libraries}/libmnl.so.0.2.0",
        f"{modules}/modules.dep",
        f"{modules}/kernel/drivers/net/igb/igb.ko",
    }
    links = {name: words[10] for name, words in listing.items() if words[0].startswith("l")}
    assert links == {**initramfs.LINKS, f"{libraries}/libmnl.so.0": "libmnl.so.0.2.0"}
    assert {"dev", "proc", "sys"} < set(listing)
    assert {tuple(words[2:4]) for words in listing.values()} == {("0", "0")}
    assert all(listing[name][0] == "-rwxr-xr-x" for name in files)
    assert [path.name for path in made.parent.iterdir() if path.name != "manifest.json"] == [
        initramfs.NAME
    ]


def test_its_first_process_is_ours(image, kernel, tmp_path):
    made = initramfs.ensure_initramfs(Cache(tmp_path / "cache"), image, kernel)
    content = tool("cpio", "-i", "--to-stdout", "init", input=made.read_bytes())
    assert content == initramfs.INIT.read_bytes()
    assert content.startswith(b"#!/usr/bin/busybox sh\n")


def test_another_first_process_makes_another(image, kernel, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cache")
    before = initramfs.ensure_initramfs(cache, image, kernel)
    assert initramfs.ensure_initramfs(cache, image, kernel) == before
    monkeypatch.setattr(initramfs, "INIT", fill(tmp_path, "inner") / "inner")
    assert initramfs.ensure_initramfs(cache, image, kernel) != before


def test_the_same_content_makes_the_same_bytes(tmp_path):
    tree = fill(tmp_path / "tree", "b/c/d", "a", "b/odd name\n")
    (tree / "link").symlink_to("a")
    other = shutil.copytree(tree, tmp_path / "elsewhere" / "tree", symlinks=True)
    (other / "a").touch()
    (other / "a").chmod(0o600)
    os.utime(other / "link", (1, 1), follow_symlinks=False)
    for each in (tree, other):
        initramfs.pack_cpio(each, each.with_suffix(".cpio"), EPOCH, tmp_path / "log")
    assert tree.with_suffix(".cpio").read_bytes() == other.with_suffix(".cpio").read_bytes()
    assert tree.with_suffix(".cpio").read_bytes().startswith(b"070701")
    assert (tmp_path / "log").read_text() == ""
