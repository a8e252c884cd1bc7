"""Entries of the cache on the way to another host: whole and verified there, or not there."""

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace

import pytest
import zstandard
from click.testing import CliRunner

from vfio_lab.cli import main
from vfio_lab.errors import HostError, UsageError
from vfio_lab.image import payload
from vfio_lab.machine import portable
from vfio_lab.util import cache_archive as archive
from vfio_lab.util import host
from vfio_lab.util.cache import MANIFEST, Cache, file_digest
from vfio_lab.util.cache_archive import Contents, Entry

HOLE_BYTES = 64 << 20
INPUTS = {"name": "7.3", "options": {"PCI": "y"}}
ENTRY = Entry("kernel", "key", inputs=INPUTS)
JUST_IT = Contents((ENTRY,))
OUT = "../../../planted"


@pytest.fixture
def cache(tmp_path):
    """A cache with an entry that has a hole, an executable and a file in a folder."""
    made = Cache(tmp_path / "alice/vfio-lab")
    made.obtain("kernel", "key", fill, inputs=INPUTS)
    return made


@pytest.fixture
def other(tmp_path):
    return Cache(tmp_path / "bob/vfio-lab").open()


def fill(folder):
    (folder / "sub").mkdir()
    (folder / "sub/text").write_text("whole")
    (folder / "program").write_bytes(b"\x7fELF")
    (folder / "program").chmod(0o755)
    with (folder / "ram").open("wb") as file:
        file.truncate(HOLE_BYTES)
        file.seek(HOLE_BYTES // 2 + 5)
        file.write(b"page")


def exported(cache, contents=JUST_IT):
    out = io.BytesIO()
    archive.export_archive(cache, contents, out)
    return out.getvalue()


def imported(cache, data, left_out=None):
    return archive.import_archive(cache, io.BytesIO(data), lambda _contents: left_out or {})


def unpacked(data):
    return bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(data))


def packed(data):
    return zstandard.ZstdCompressor().compress(bytes(data))


def refused(other, data, words):
    with pytest.raises(UsageError, match="the cache is unchanged") as caught:
        imported(other, data)
    assert words in str(caught.value)
    assert {path.name for path in other.root.rglob("*")} <= {"import.lock"}


def crafted(contents, *members):
    """An archive with any members, as tarfile writes them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name, data, kind in [
            (archive.CONTENTS, json.dumps(contents), tarfile.REGTYPE),
            *members,
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            made.addfile(member, io.BytesIO(data.encode()))
    return packed(out.getvalue())


def listing(kind="kernel", key="key", **extra):
    return {"format": 1, "architecture": "x86_64", "pins": {}} | {
        "entries": [{"kind": kind, "key": key}],
        **extra,
    }


def manifest(*names):
    return json.dumps({name: {"size": 4, "sha256": "0"} for name in names})


def test_an_entry_arrives_whole_with_modes_holes_and_inputs(cache, other):
    assert imported(other, exported(cache)).new == (ENTRY,)
    here, there = cache.path("kernel", "key"), other.find("kernel", "key")
    assert file_digest(there / MANIFEST) == file_digest(here / MANIFEST)
    assert file_digest(there / "ram") == file_digest(here / "ram")
    assert (there / "ram").stat().st_blocks * 512 < 4 << 20
    assert (there / "program").stat().st_mode & 0o777 == 0o700
    assert other.inputs("kernel", "key") == cache.inputs("kernel", "key")


def test_any_tar_lists_an_archive(cache):
    with tarfile.open(fileobj=io.BytesIO(unpacked(exported(cache)))) as made:
        assert "kernel/key/sub/text" in made.getnames()


def test_what_is_there_is_not_written_again(cache, other):
    imported(other, exported(cache))
    inode = (other.path("kernel", "key") / "ram").stat().st_ino
    done = imported(other, exported(cache))
    assert (done.new, done.there) == ((), (ENTRY,))
    assert (other.path("kernel", "key") / "ram").stat().st_ino == inode


def test_a_damaged_entry_is_replaced_by_the_archives(cache, other):
    imported(other, exported(cache))
    (other.path("kernel", "key") / "sub/text").write_text("other")
    assert imported(other, exported(cache)).new == (ENTRY,)
    assert (other.find("kernel", "key") / "sub/text").read_text() == "whole"


def test_what_is_left_out_is_skipped_and_the_rest_arrives(cache, other):
    cache.obtain("image", "key", fill)
    image = Entry("image", "key")
    done = imported(other, exported(cache, Contents((image, ENTRY))), {image: "why"})
    assert (done.new, done.left_out) == ((ENTRY,), {image: "why"})
    assert other.keys("image") == []


def test_pins_arrive(cache, other):
    imported(other, exported(cache, Contents((ENTRY,), {"linux-source-7.3": '{"version": "1"}'})))
    assert json.loads(archive.pin_path(other, "linux-source-7.3").read_text()) == {"version": "1"}


def test_every_truncated_archive_is_refused(cache, other):
    data = exported(cache)
    for size in {0, 1, 3, 10, len(data) // 3, len(data) // 2, len(data) - 5}:
        refused(other, data[:size], "seen: ")


def test_an_archive_with_a_changed_byte_is_refused(cache, other):
    data = unpacked(exported(cache))
    place = data.index(b"whole")
    data[place] ^= 1
    refused(other, packed(data), "kernel key: sub/text has another content")


def test_a_damaged_last_entry_keeps_out_the_first(cache, other):
    cache.obtain("image", "key", fill)
    data = unpacked(exported(cache, Contents((ENTRY, Entry("image", "key")))))
    data[data.rindex(b"whole")] ^= 1
    refused(other, packed(data), "image key: sub/text has another content")


@pytest.mark.parametrize(
    ("contents", "members", "words"),
    [
        (listing(format=2), [], "format 2"),
        (listing(architecture="aarch64"), [], "entries for aarch64"),
        (listing(kind="locks"), [], "'locks'"),
        (listing(key=OUT), [], OUT),
        (listing(entries=[{"kind": "kernel", "key": "key"}] * 2), [], "twice"),
        (listing(entries=[{"kind": "kernel"}]), [], "make no sense"),
        (listing(entries=7), [], "make no sense"),
        (listing(pins={OUT: "{}"}), [], OUT),
        (listing(pins={"pin": "<html>"}), [], "make no sense"),
        ([], [], "make no sense"),
        (listing(), [("kernel/key/manifest.json", manifest(OUT), b"0")], OUT),
        (listing(), [("kernel/key/manifest.json", manifest("/etc/motd"), b"0")], "/etc/motd"),
        (listing(), [("kernel/key/manifest.json", manifest("a", "a/b"), b"0")], "in a file"),
        (listing(), [("kernel/key/manifest.json", manifest("a//b"), b"0")], "a//b"),
        (listing(), [("kernel/key/manifest.json", "[]", b"0")], "manifest that makes no sense"),
        (listing(), [("kernel/key/manifest.json", "[" * 99999, b"0")], "makes no sense"),
        (listing(), [("kernel/key/manifest.json", "", tarfile.SYMTYPE)], "where kernel/key/man"),
        (
            listing(),
            [
                ("kernel/key/manifest.json", manifest("a"), b"0"),
                ("kernel/key/a", "", tarfile.SYMTYPE),
            ],
            "type b'2'",
        ),
        (
            listing(),
            [("kernel/key/manifest.json", manifest("a"), b"0"), (OUT, "data", b"0")],
            f"{OUT!r}",
        ),
        (
            listing(),
            [("kernel/key/manifest.json", manifest("a"), b"0"), ("kernel/key/a", "x", b"0")],
            "with 1 bytes, not 4",
        ),
        (
            listing(),
            [("kernel/key/manifest.json", "{}", b"0"), ("kernel/key/a", "x", b"0")],
            "more than its contents",
        ),
    ],
)
def test_an_archive_that_was_not_exported_is_refused(other, contents, members, words):
    refused(other, crafted(contents, *members), words)
    assert not (other.root.parents[2] / "planted").exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>404</html>", b"\x28\xb5\x2f\xfd", bytes(range(99))],
    ids=["empty", "HTML", "a zstd magic alone", "noise"],
)
def test_a_file_that_is_no_archive_is_refused(other, data):
    refused(other, data, "seen: ")


def test_a_disk_without_room_is_found_before_anything_is_written(cache, other, monkeypatch):
    data = exported(cache, Contents((replace(ENTRY, disk_bytes=1 << 30),)))
    monkeypatch.setattr(host, "free_bytes", lambda _folder: 1 << 20)
    with pytest.raises(HostError, match="not enough disk space for the archive's entries"):
        imported(other, data)
    assert other.keys("kernel") == []


def test_an_import_clears_what_a_killed_one_left(cache, other):
    stale = other.root / f"{archive.STAGE}x"
    stale.mkdir()
    imported(other, exported(cache))
    assert not stale.exists()


@pytest.fixture
def frozen(cache, monkeypatch):
    """Contents with a template of QEMU `one`, and the keys of its guests."""
    payload.keys(cache)
    monkeypatch.setattr(portable, "_qemu", lambda: "one")
    digest = file_digest(cache.path(*portable.KEYS) / MANIFEST)
    template = Entry("template", "igb-1", inputs={"qemu": "one"})
    return Contents((Entry(*portable.KEYS, inputs={"digest": digest}), template))


def test_templates_of_this_qemu_are_taken(frozen, other):
    assert portable.unusable(other, frozen) == {}


def test_templates_of_another_qemu_are_left_out(frozen, other, monkeypatch):
    monkeypatch.setattr(portable, "_qemu", lambda: "two")
    assert portable.unusable(other, frozen) == {frozen.entries[1]: portable.OTHER_QEMU}


def test_templates_with_other_ssh_keys_are_left_out(frozen, other):
    payload.keys(other)
    assert set(portable.unusable(other, frozen).values()) == {portable.OTHER_KEYS}


@pytest.fixture
def cli(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.root.parent))
    return lambda *words: CliRunner().invoke(main, ("cache", *words))


def test_an_export_names_a_kernel_that_is_not_built(cli, tmp_path):
    done = cli("export", "7.3", "-o", str(tmp_path / "out"))
    assert (done.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert "kernel 7.3 cannot be exported" in done.stderr


def test_an_import_of_a_broken_file_ends_with_one_error(cli, tmp_path):
    (tmp_path / "broken").write_bytes(b"<html>")
    done = cli("import", str(tmp_path / "broken"))
    assert done.exit_code == 2
    assert "the archive cannot be imported" in done.stderr


def test_why_shows_what_differs_in_the_entry_most_like_it(cli, cache):
    cache.obtain("kernel", "near", fill, inputs={"name": "7.3", "options": {"PCI": "n"}})
    cache.obtain("kernel", "far", fill, inputs={"name": "6.1"})
    shown = cli("why", "ke").output.splitlines()
    assert shown[0] == "kernel key"
    assert shown[-2:] == ["near is most like it; it has", "  options.PCI = n"]


def test_why_wants_one_entry(cli):
    assert "seen: none" in cli("why", "nope").stderr


def test_prune_deletes_what_was_not_used_and_then_the_oldest(cli, cache):
    for days, key in enumerate(("new", "old", "oldest")):
        cache.obtain("image", key, lambda folder: (folder / "data").write_bytes(b"x" * (2 << 20)))
        for path in (cache.path("image", key), cache.path("image", key).with_suffix(".seal")):
            if path.exists():
                os.utime(path, (1e9 - days * 86400,) * 2)
    assert cli("list").output.count("image ") == 3
    cli("prune", "--over", "3M")
    assert cache.keys("image") == ["new"]
    assert cache.keys("kernel") == ["key"]
    cli("prune", "--older", "3")
    assert cache.keys("image") == []


@pytest.mark.parametrize("words", [(), ("--over", "much"), ("--older", "-1")])
def test_prune_wants_a_bound(cli, words):
    assert cli("prune", *words).exit_code == 2


HOLDER = """
import sys
from pathlib import Path
from vfio_lab.util.cache import Cache
assert Cache(Path(sys.argv[1])).find("image", "used")
print("held", flush=True)
sys.stdin.read()
"""


def test_prune_leaves_what_another_process_uses_however_old_it_looks(cli, cache):
    for key in ("used", "unused"):
        cache.obtain("image", key, lambda folder: (folder / "data").write_bytes(b"x"))
    command = [sys.executable, "-c", HOLDER, str(cache.root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout.readline() == b"held\n"
        _look_old(cache)
        cli("prune", "--older", "0")
        assert cache.keys("image") == ["used"]
        holder.communicate()
    _look_old(cache)
    cli("prune", "--older", "0")
    assert cache.keys("image") == []


def _look_old(cache):
    for path in (cache.root / "image").iterdir():
        os.utime(path, (1e9, 1e9))
