"""Results of runs as files."""

import json
from dataclasses import replace

import pytest

from vfio_lab.campaign import results
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import UsageError

RECORD = Record("scenarios/a.py::test_it[b]", ("A02",), "igb", Outcome.KNOWN, "so", 0.5, "a-b")


def found(*records, kernel="7.3"):
    facts = {"name": kernel, "release": f"{kernel}.0-lab", "digest": "d"}
    return Results(facts, {"qemu": "10.0.2", "accelerator": "tcg"}, 1.0, 2.0, 0, records)


def test_results_are_read_as_they_were_written(tmp_path):
    path = found(RECORD).write(tmp_path / "run")
    assert path == tmp_path / "run" / "results.json"
    assert results.read_results(path.parent) == found(RECORD)
    assert [one.name for one in path.parent.iterdir()] == ["results.json"]


def test_another_schema_is_not_guessed_at(tmp_path):
    path = found(RECORD).write(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": results.SCHEMA + 1}))
    with pytest.raises(UsageError, match=r"holds no results\.json of schema"):
        results.read_results(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_damaged_verdicts_are_forgotten_not_fatal(tmp_path, text):
    (tmp_path / results.VERDICTS).write_text(text)
    results.remember(tmp_path, found(RECORD))
    assert results.last_verdicts(tmp_path) == {"7.3": {RECORD.nodeid: Outcome.KNOWN}}


def test_no_verdicts_are_none(tmp_path):
    assert results.last_verdicts(tmp_path) == {}


def test_the_last_run_of_a_scenario_says_how_long_it_takes(tmp_path):
    other = replace(RECORD, nodeid="scenarios/a.py::other", seconds=3.0)
    found(RECORD, other).write(tmp_path / "20261121-080000-1")
    found(replace(RECORD, seconds=0.7)).write(tmp_path / "20261121-090000-1")
    (tmp_path / "20261121-100000-1").mkdir()
    (tmp_path / "20261121-100000-1" / results.RESULTS).write_text("{")
    assert results.durations(tmp_path) == {RECORD.nodeid: 0.7, other.nodeid: 3.0}


def test_the_worst_outcome_speaks_for_all():
    assert results.worst([Outcome.PASSED, Outcome.FAILED, Outcome.KNOWN]) is Outcome.FAILED
    assert results.worst([Outcome.PASSED, Outcome.SKIPPED]) is Outcome.SKIPPED
    assert results.worst([]) is None
