"""Large folders are deleted in the background, and what a run leaves is deleted by the next."""

import subprocess
import sys

import pytest

from vfio_lab.util.cache import RUBBISH, Cache
from vfio_lab.util.deadline import Deadline, wait_until


@pytest.fixture
def heap(tmp_path):
    return tmp_path / "cache" / RUBBISH


@pytest.fixture
def cache(heap):
    return Cache(heap.parent).open()


def test_a_large_folder_is_away_at_once_and_deleted_soon(cache, heap, tmp_path):
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "file").touch()
    cache.delete_later(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    wait_until("an empty heap", lambda: not [*heap.iterdir()], Deadline.after(20.0))


def test_what_an_ended_run_left_is_deleted_by_the_next(cache, heap, tmp_path):
    (heap / "left" / "deep").mkdir(parents=True)
    cache.delete_later(tmp_path / "absent")
    wait_until("an empty heap", lambda: not [*heap.iterdir()], Deadline.after(20.0))


def test_it_goes_on_when_the_run_has_ended(heap, tmp_path):
    for number in range(3000):
        (tmp_path / "tree" / str(number)).mkdir(parents=True)
    run = f"""
from pathlib import Path
from vfio_lab.util.cache import Cache
Cache(Path({str(heap.parent)!r})).open().delete_later(Path({str(tmp_path / "tree")!r}))
"""
    subprocess.run([sys.executable, "-c", run], check=True)
    wait_until("an empty heap", lambda: not [*heap.iterdir()], Deadline.after(20.0))
