"""Home folders that can do less: no hard links, no exec, little room."""

import os
import subprocess
import sys

import pytest
from support.kernel_files import deb, installed

from vfio_lab.image import agent
from vfio_lab.util import cache_archive, host, jail
from vfio_lab.util.cache import Cache

CACHE = """\
import os, sys
from pathlib import Path
from vfio_lab.image import agent, payload
from vfio_lab.util.cache import Cache
cache = Cache(Path(sys.argv[1])).open()
print(agent.build_agent(cache), payload.keys(cache))
data = bytes(range(256)) * 8192
cache.obtain("kernel", "key", lambda folder: (folder / "data").write_bytes(data))
"""

UNPACK = """\
import sys
from pathlib import Path
from vfio_lab.kernels import selector
from vfio_lab.util.cache import Cache
cache = Cache(Path(sys.argv[1])).open()
try:
    selector.ensure_kernel(sys.argv[2], cache)
finally:
    left = [path for path in cache.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    print(*(path for path in left if not path.is_relative_to(cache.root / "logs")))
"""

FILL = """\
import sys
from pathlib import Path
from vfio_lab.kernels import kbuild
from vfio_lab.util.cache import Cache
kbuild.ROOM_BYTES = 48 << 20
cache = Cache(Path(sys.argv[1])).open()
bench = kbuild.Bench(kbuild.Job("evil", (), (), 0), cache.root / "work", cache, foreign=True)
bench.tree.mkdir(parents=True)
command = "for n in $$(seq 90); do head -c 1M /dev/zero >lab-out/$$n; sleep 0.1; done"
(bench.tree / "Makefile").write_text(f"all:\\n\\t{command}; touch lab-out/all\\n")
try:
    bench.make("compile", "all")
finally:
    print((bench.out / "all").exists(), len(list(bench.out.iterdir())))
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(host.missing("agent")), reason="mounts need root, the agent gcc"
)


@pytest.fixture
def mounted(tmp_path):
    """Return what runs Python with a tmpfs of some options at a folder, in a namespace."""
    home = tmp_path / "home"
    home.mkdir()

    def run(options, code, *more):
        script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
        words = ["unshare", "--mount", "sh", "-c", script, home]
        words += [sys.executable, "-c", code, home / "cache", *more]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("options", ["size=16M", "size=16M,noexec,nosuid"])
def test_a_cache_works_without_exec(mounted, options):
    done = mounted(options, CACHE)
    assert done.returncode == 0, done.stderr


def test_a_cache_with_little_room_ends_with_one_error(mounted):
    done = mounted("size=1M", CACHE)
    assert done.returncode == 1
    last = done.stderr.splitlines()
    assert any("the disk filled up while building" in line for line in last), done.stderr


def test_a_package_that_fills_the_disk_while_it_is_unpacked_leaves_nothing(mounted, tmp_path):
    root = installed(tmp_path / "root")
    with (root / "boot/large").open("wb") as file:
        file.truncate(64 << 20)  # compressed it is small, so the space is not missed before
    package = deb(tmp_path / "linux-image_1_amd64.deb", root, compression="xz")
    done = mounted("size=8M", UNPACK, package)
    assert done.returncode == 1, done.stderr
    assert "cannot unpack linux-image_1_amd64.deb" in done.stderr
    assert "No space left on device" in done.stderr
    assert done.stdout.split() == []


@pytest.mark.skipif(jail.why_not() is not None, reason=f"no jail: {jail.why_not()}")
def test_untrusted_code_that_fills_the_disk_is_ended_before_it_is_full(mounted):
    done = mounted("size=96M", FILL)
    assert done.returncode == 1
    assert "kernel evil was not built: it nearly filled the disk" in done.stderr, done.stderr
    finished, files = done.stdout.split()
    assert finished == "False"
    assert int(files) < 80


def test_a_cache_works_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_words, **_more):
        raise PermissionError("this file system has no hard links")

    monkeypatch.setattr(os, "link", refuse)
    cache, other = Cache(tmp_path / "one").open(), Cache(tmp_path / "two").open()
    agent.build_agent(cache)
    (key,) = cache.keys("agent")
    with (tmp_path / "archive").open("w+b") as file:
        contents = cache_archive.Contents((cache_archive.Entry("agent", key),))
        cache_archive.export_archive(cache, contents, file)
        file.seek(0)
        cache_archive.import_archive(other, file, lambda _contents: {})
    assert other.keys("agent") == [key]
