"""Home folders that can do less: no hard links, no exec, little room."""

import os
import subprocess
import sys

import pytest

from vfio_lab.image import agent
from vfio_lab.util import cache_archive, host
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

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(host.missing("agent")), reason="mounts need root, the agent gcc"
)


@pytest.fixture
def mounted(tmp_path):
    """Return what runs Python with a tmpfs of some options at a folder, in a namespace."""
    home = tmp_path / "home"
    home.mkdir()

    def run(options, code):
        script = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1/cache"'
        words = ["unshare", "--mount", "sh", "-c", script, "sh", home, sys.executable, code]
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
