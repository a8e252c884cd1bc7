"""Large folders are deleted in the background, and what a run leaves is deleted by the next."""

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
    wait_until("no heap", lambda: not heap.exists(), Deadline.after(20.0))


def test_what_an_ended_run_left_is_deleted_by_the_next(cache, heap, tmp_path):
    (heap / "left" / "deep").mkdir(parents=True)
    cache.delete_later(tmp_path / "absent")
    wait_until("no heap", lambda: not heap.exists(), Deadline.after(20.0))
