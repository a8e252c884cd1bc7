"""Which evidence is deleted: by age and size, each kind for itself, and nothing that is in use."""

import os
import time

import pytest

from vfio_lab.evidence import retention

NOBODY = 2**22 + 1  # beyond the highest PID
DAY_S = 24 * 3600
NOW = time.time()


@pytest.fixture
def runs(tmp_path):
    def make(name, days, size=10, pid=NOBODY):
        folder = tmp_path / f"{name}-{pid}"
        (folder / "guest").mkdir(parents=True)
        with (folder / "guest" / "console.log").open("w") as file:
            file.truncate(size)
        os.utime(folder, (NOW - days * DAY_S,) * 2)
        return folder

    return make


def test_what_is_older_than_two_weeks_goes(runs, tmp_path):
    old, young = runs("20260101-120000", 15), runs("20260102-120000", 13)
    assert retention.delete_old_runs(tmp_path, NOW) == [old]
    assert not old.exists()
    assert young.is_dir()


def test_what_exceeds_the_size_goes_the_oldest_first(runs, tmp_path):
    half = retention.KEPT_BYTES // 2
    days = [runs(f"2026010{day}-120000", 9 - day, half) for day in (1, 2, 3)]
    assert retention.delete_old_runs(tmp_path, NOW) == days[:1]


def test_one_kind_of_run_does_not_push_out_another(runs, tmp_path):
    mine = runs("20260101-120000", 3, retention.KEPT_BYTES)
    for second in range(3):
        runs(f"try-20260104-12000{second}", 1, retention.KEPT_BYTES)
    retention.delete_old_runs(tmp_path, NOW)
    assert mine.is_dir()
    assert len(list(tmp_path.glob("try-*"))) == 1


def test_what_was_named_within_the_hour_stays(runs, tmp_path):
    named = runs("20260101-120000", 30, 2 * retention.KEPT_BYTES)
    retention.mark_as_named(named)
    assert retention.delete_old_runs(tmp_path) == []


def test_what_a_running_process_has_made_stays(runs, tmp_path):
    runs("mutate-20260101-120000", 30, pid=os.getpid())
    assert retention.delete_old_runs(tmp_path, NOW) == []


def test_nothing_else_in_the_folder_is_touched(tmp_path):
    other = tmp_path / "2025-holidays"
    other.mkdir()
    (tmp_path / "verdicts.json").write_text("{}")
    os.utime(other, (0, 0))
    assert retention.delete_old_runs(tmp_path, NOW) == []


def test_a_new_run_is_recognised_as_one(tmp_path):
    match = retention.RUN.fullmatch(retention.new_run_folder(tmp_path, "igb-bus").name)
    assert match["kind"] == "igb-bus"
    assert match["pid"] == str(os.getpid())
    assert retention.RUN.fullmatch(retention.run_name())["kind"] is None
