"""Templates: what makes two of them the same."""

import errno
from pathlib import Path

import pytest

from vfio_lab.errors import HostError
from vfio_lab.machine.template import wherever
from vfio_lab.util.cache import Cache
from vfio_lab.util.files import require_shared_mappings


def test_a_copied_cache_has_the_same_templates():
    here, there = Path("/home/a/.cache/vfio-lab"), Path("/srv/b")
    lines = [
        ["qemu", "-kernel", f"{root}/kernel/k/bzImage", "-append", "ro"] for root in (here, there)
    ]
    assert wherever(here, lines[0]) == wherever(there, lines[1])
    assert wherever(here, lines[0]) != wherever(here, [*lines[0][:-1], "rw"])


def test_a_file_system_without_shared_mappings_is_found_before_a_guest_is(tmp_path, monkeypatch):
    cache = Cache(tmp_path)

    def refuse(*_):
        raise OSError(errno.ENODEV, "No such device")

    require_shared_mappings(cache.root)
    monkeypatch.setattr("mmap.mmap", refuse)
    with pytest.raises(HostError, match=r"cannot be mapped[\s\S]*No such device[\s\S]*--lab-cold"):
        require_shared_mappings(cache.root)
    assert list(cache.root.iterdir()) == []
