"""The cache: entries are whole and verified or absent, whatever happens to disk and builders."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_lab.errors import BuildError, HostError, UsageError
from vfio_lab.util import cache as module
from vfio_lab.util.cache import (
    CHUNK_BYTES,
    MANIFEST,
    Cache,
    digest,
    file_digest,
)
from vfio_lab.util.deadline import Deadline, wait_until

NOBODY = 65534
KIND, KEY = "kind", "key"
BUILDER = """
import sys
from pathlib import Path
from vfio_lab.util.cache import Cache

root, count = map(Path, sys.argv[1:])

def build(scratch):
    (scratch / "data").write_text("half")
    with count.open("a") as file:
        file.write("built ")
    print("building", flush=True)
    sys.stdin.readline()
    (scratch / "data").write_text("whole")

print(Cache(root).obtain("kind", "key", build, on_wait=lambda: print("waiting", flush=True)))
"""
FILL_UP = """
import sys
from pathlib import Path
from vfio_lab.util.cache import Cache
from vfio_lab.errors import HostError

cache = Cache(Path(sys.argv[1]))
try:
    cache.obtain("kind", "big", lambda scratch: (scratch / "data").write_bytes(b"x" * 10_000_000))
except HostError as error:
    print(error.exit_code, error.what)
print([str(path) for path in cache.root.rglob("*big*") if path.suffix != ".lock"])
"""
ON_A_SMALL_DISK = 'mount -t tmpfs -o "$1" tmpfs "$2" && exec "$3" -c "$4" "$2"'


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def fill(scratch):
    (scratch / "data").write_text("whole")
    (scratch / "folder").mkdir()
    (scratch / "folder" / "more").write_text("more")


def seal_of(cache):
    return cache.path(KIND, KEY).with_name(f"{KEY}.seal")


def sealed(cache):
    """Return an entry with a seal; what changed a moment ago gets none yet."""
    entry = cache.obtain(KIND, KEY, fill)
    wait_until(
        "the seal", lambda: cache.find(KIND, KEY) and seal_of(cache).exists(), Deadline.after(10)
    )
    return entry


def forge(path, data):
    """Write to a file and pretend not to have."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns


DAMAGE = {
    "truncated": lambda entry: os.truncate(entry / "data", 2),
    "longer": lambda entry: (entry / "data").write_text("whole and more"),
    "edited": lambda entry: forge(entry / "data", b"WHOLE"),
    "edited deeper": lambda entry: forge(entry / "folder" / "more", b"MORE"),
    "extra file": lambda entry: (entry / "folder" / "extra").touch(),
    "missing file": lambda entry: (entry / "data").unlink(),
    "missing folder": lambda entry: shutil.rmtree(entry / "folder"),
    "file become folder": lambda entry: ((entry / "data").unlink(), (entry / "data").mkdir()),
    "missing manifest": lambda entry: (entry / MANIFEST).unlink(),
    "garbled manifest": lambda entry: (entry / MANIFEST).write_text('{"data": '),
    "binary manifest": lambda entry: (entry / MANIFEST).write_bytes(b"\xff\0"),
    "manifest of another shape": lambda entry: (entry / MANIFEST).write_text('["data"]'),
    "manifest without sums": lambda entry: (entry / MANIFEST).write_text(
        json.dumps({"data": {"size": 5}, "folder/more": 4})
    ),
    "everything": shutil.rmtree,
}


def test_an_entry_is_built_once(cache):
    entry = cache.obtain(KIND, KEY, fill)
    assert (entry / "data").read_text() == "whole"
    assert cache.obtain(KIND, KEY, pytest.fail) == entry
    assert cache.find(KIND, KEY) == entry
    assert cache.keys(KIND) == [KEY]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_absent_and_built_anew(cache, damage):
    entry = sealed(cache)
    damage(entry)
    assert cache.find(KIND, KEY) is None
    assert cache.obtain(KIND, KEY, fill) == entry
    assert (entry / "data").read_text() == "whole"
    assert (entry / "folder" / "more").read_text() == "more"
    assert cache.find(KIND, KEY) == entry


def test_an_edit_within_the_tick_that_built_the_entry_is_found(cache):
    for number in range(50):
        key = str(number)
        entry = cache.obtain(KIND, key, fill)
        forge(entry / "data", b"WHOLE")
        assert cache.find(KIND, key) is None


def test_a_sealed_entry_is_not_read_again(cache, monkeypatch):
    entry = sealed(cache)
    monkeypatch.setattr(module, "file_digest", pytest.fail)
    assert cache.find(KIND, KEY) == entry


def test_a_broken_seal_is_renewed_when_the_content_is_right(cache, monkeypatch):
    entry = sealed(cache)
    before = seal_of(cache).read_text()
    (entry / "data").touch()
    wait_until(
        "a new seal",
        lambda: cache.find(KIND, KEY) and seal_of(cache).read_text() != before,
        Deadline.after(10),
    )
    monkeypatch.setattr(module, "file_digest", pytest.fail)
    assert cache.find(KIND, KEY) == entry


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"data": []}'])
def test_a_seal_that_makes_no_sense_is_no_seal(cache, text):
    entry = sealed(cache)
    seal_of(cache).write_text(text)
    assert cache.find(KIND, KEY) == entry
    forge(entry / "data", b"WHOLE")
    seal_of(cache).write_text(text)
    assert cache.find(KIND, KEY) is None


def test_an_entry_that_cannot_be_sealed_is_as_good(cache, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    entry = sealed(cache)
    seal_of(cache).unlink()
    monkeypatch.setattr(Path, "replace", refuse)
    assert cache.find(KIND, KEY) == entry
    assert sorted(path.name for path in entry.parent.iterdir()) == [KEY]


def test_an_edit_while_the_content_is_read_breaks_the_seal(cache, monkeypatch):
    entry = sealed(cache)
    seal_of(cache).unlink()

    def read_then_edit(path):
        found = file_digest(path)
        forge(path, path.read_bytes().upper())
        return found

    monkeypatch.setattr(module, "file_digest", read_then_edit)
    cache.find(KIND, KEY)
    monkeypatch.undo()
    assert cache.find(KIND, KEY) is None
    assert entry.exists()


def start_builder(cache, count):
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(cache.root), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_two_runs_that_want_an_entry_one_builds_it(cache, tmp_path):
    count = tmp_path / "count"
    with start_builder(cache, count) as first:
        assert first.stdout.readline() == "building\n"
        with start_builder(cache, count) as second:
            assert second.stdout.readline() == "waiting\n"
            assert cache.find(KIND, KEY) is None
            first.stdin.write("\n")
            first.stdin.flush()
            entry = f"{cache.path(KIND, KEY)}\n"
            assert [first.stdout.readline(), second.stdout.readline()] == [entry, entry]
    assert count.read_text() == "built "
    assert (cache.path(KIND, KEY) / "data").read_text() == "whole"


def test_nothing_of_a_killed_builder_is_used_or_kept(cache, tmp_path):
    with start_builder(cache, tmp_path / "count") as builder:
        assert builder.stdout.readline() == "building\n"
        assert [path.name[:5] for path in (cache.root / KIND).iterdir()] == [".key."]
        builder.send_signal(signal.SIGKILL)
        builder.wait()
    assert cache.find(KIND, KEY) is None
    assert cache.keys(KIND) == []
    entry = cache.obtain(KIND, KEY, fill)
    assert [path for path in (cache.root / KIND).iterdir() if path.is_dir()] == [entry]


def test_a_folder_that_is_being_built_is_no_entry(cache):
    cache.obtain(KIND, KEY, fill)
    (cache.root / KIND / ".other.1a2b").mkdir()
    (cache.root / KIND / ".other.1a2b" / MANIFEST).write_text("{}")
    assert cache.keys(KIND) == [KEY]


@pytest.mark.parametrize(
    "error", [BuildError("no"), KeyboardInterrupt(), OSError(errno.EIO, "I/O")]
)
def test_a_build_that_fails_leaves_nothing(cache, error):
    def build(scratch):
        fill(scratch)
        raise error

    with pytest.raises(type(error)) as raised:
        cache.obtain(KIND, KEY, build)
    assert raised.value is error
    assert list((cache.root / KIND).iterdir()) == []
    assert cache.obtain(KIND, KEY, fill)


def test_a_full_disk_is_the_hosts_fault(cache):
    with pytest.raises(HostError, match="the disk filled up while building kind key") as full:
        cache.obtain(KIND, KEY, lambda _: Path("/dev/full").write_text("x"))
    assert full.value.exit_code == 2
    assert "XDG_CACHE_HOME" in full.value.hint
    assert list((cache.root / KIND).iterdir()) == []


@pytest.mark.parametrize("limit", ["size=256k", "size=1m,nr_inodes=2", "size=1m,nr_inodes=3"])
def test_a_disk_that_is_really_full_says_so_and_keeps_nothing(tmp_path, limit):
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK]
    arguments = ["sh", limit, str(tmp_path), sys.executable, FILL_UP]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command[:4], "true"], check=False).returncode
    ):
        pytest.skip("needs user namespaces: this host does not let the test make one")
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout == "2 the disk filled up while building kind big\n[]\n", done.stderr


def test_the_cache_of_another_user_is_refused(tmp_path):
    root = Path("/")
    if os.geteuid() == 0:
        root = tmp_path / "theirs"
        root.mkdir()
        os.chown(root, NOBODY, NOBODY)
    for attempt in (Cache(root).open, lambda: Cache(root).obtain(KIND, KEY, fill)):
        with pytest.raises(UsageError, match="belongs to another user") as foreign:
            attempt()
        assert foreign.value.exit_code == 2
    assert os.geteuid() or list(root.iterdir()) == []


def test_a_cache_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot use the cache folder"):
            Cache(root).open()


def test_nothing_is_open_to_others(cache):
    def build(scratch):
        fill(scratch)
        for path in scratch.rglob("*"):
            path.chmod(0o777)

    cache.root.mkdir(mode=0o777)
    before = os.umask(0)
    try:
        cache.obtain(KIND, KEY, build)
        wait_until(
            "the seal",
            lambda: cache.find(KIND, KEY) and seal_of(cache).exists(),
            Deadline.after(10),
        )
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode for path in (cache.root, *cache.root.rglob("*"))}
    assert {"key.seal", "kind-key.lock", "data", MANIFEST} <= {path.name for path in modes}
    assert [path for path, mode in modes.items() if mode & 0o077] == []


def test_removing_takes_the_seal_along(cache):
    entry = sealed(cache)
    cache.remove(KIND, KEY)
    assert not entry.exists()
    assert not seal_of(cache).exists()
    cache.remove(KIND, KEY)


def test_pruning_takes_what_was_used_least_recently(cache):
    for number, key in enumerate("abcd"):
        entry = cache.obtain(KIND, key, fill)
        for path in (entry, entry.with_name(f"{key}.seal")):
            path.touch()
            os.utime(path, (number, number))
    cache.obtain(KIND, "fresh", fill)
    assert cache.find(KIND, "b")
    cache.prune(KIND, 3)
    assert cache.keys(KIND) == ["b", "d", "fresh"]
    cache.prune(KIND, 9)
    assert cache.keys(KIND) == ["b", "d", "fresh"]
    cache.prune(KIND, 0)
    assert cache.keys(KIND) == []


def test_the_digest_of_a_value_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2, "ü"]}) == digest({"b": [2, "ü"], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})


@pytest.fixture
def holey(tmp_path):
    """A file with two pieces of data in one chunk, one over a chunk's edge, a hole at its end."""
    path = tmp_path / "holey"
    with path.open("wb") as file:
        for place in (8192, 65536, 3 * CHUNK_BYTES - 2, 5 * CHUNK_BYTES):
            file.seek(place)
            file.write(b"data")
        file.truncate(8 * CHUNK_BYTES + 5)
    return path


@pytest.mark.parametrize("how", ["never", "always", "auto"])
def test_holes_do_not_change_a_digest(holey, how):
    copy = holey.with_name("copy")
    subprocess.run(["/bin/cp", f"--sparse={how}", holey, copy], check=True)
    assert file_digest(copy) == file_digest(holey)


def test_each_piece_of_data_is_digested_once(holey, monkeypatch):
    read = []
    pread = os.pread

    def counted(fd, size, offset):
        read.append(offset // CHUNK_BYTES)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    file_digest(holey)
    assert read == sorted(set(read))


def test_place_content_and_size_all_count(tmp_path):
    def with_content(data, size):
        path = tmp_path / "file"
        path.write_bytes(data)
        os.truncate(path, size)
        return file_digest(path)

    digests = [
        with_content(b"", 0),
        with_content(b"", 1),
        with_content(b"", CHUNK_BYTES + 1),
        with_content(b"x", 1),
        with_content(b"x", 2),
        with_content(b"\0x", 2),
        with_content(bytes(CHUNK_BYTES) + b"x", CHUNK_BYTES + 1),
    ]
    assert len(set(digests)) == len(digests)
    assert with_content(b"x", 2) == digests[4]
