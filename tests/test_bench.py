"""Figures of the lab's performance: bars, the table for documents, the history, the parts."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from vfio_lab.campaign import costs, figures
from vfio_lab.campaign.figures import BARS, Figure, Measured
from vfio_lab.cli.bench import bench
from vfio_lab.errors import UsageError
from vfio_lab.util import host

MEASURED = Measured(
    (Figure("clone_p50_s", 0.151, 40), Figure("virtme_ng_per_clone_ratio", 18.0, 5)),
    "2 cores",
    "tcg, QEMU 10.0.2, kernel 7.3.4-lab",
    (0.1, 1.2),
    "0123abc",
    "2026-11-29 18:00",
)


@pytest.mark.parametrize(
    ("key", "value", "holds"),
    [
        ("clone_p50_s", 0.25, True),
        ("clone_p50_s", 0.26, False),
        ("virtme_ng_per_clone_ratio", 20.0, True),
        ("virtme_ng_per_clone_ratio", 19.9, False),
        ("virtme_ng_s", 1e6, True),
    ],
)
def test_a_bar_is_the_largest_or_the_smallest_accepted_value(key, value, holds):
    assert Figure(key, value).holds is holds


def test_every_bar_is_shown_also_if_it_was_not_measured():
    rows = {row[0]: row for row in MEASURED.rows()}
    assert set(BARS) <= set(rows)
    assert rows["clone_p50_s"] == ("clone_p50_s", "0.151", "at most 0.25", "held", "40")
    assert rows["virtme_ng_per_clone_ratio"][1:4] == ("18", "at least 20", "missed")
    assert rows["catalogue_cpu_ratio"][1:] == (
        *("not measured", "at most 0.5", "", "--catalogue --against CHECKOUT"),
    )


def test_many_are_shown_whole():
    rows = Measured((Figure("translated_blocks_per_scenario", 15987),), "", "", (0, 0), "").rows()
    assert rows[-1][:2] == ("translated_blocks_per_scenario", "15987")


def test_a_document_says_where_it_was_measured():
    text = figures.markdown(MEASURED)
    assert text.startswith("2 cores; tcg, QEMU 10.0.2, kernel 7.3.4-lab; commit 0123abc, ")
    assert "load 0.1 before, 1.2 after.\n" in text
    assert "| clone_p50_s | 0.151 | at most 0.25 | held | 40 |" in text


def test_a_busy_machine_is_named():
    busy = Measured((), "m", "s", (float(host.cores()), 9.0), "c")
    assert "other work ran" in str(busy)
    assert "other work ran" not in str(MEASURED)


def test_the_history_keeps_each_run(tmp_path):
    path = tmp_path / figures.HISTORY
    assert figures.read_measured(path) == []
    figures.append_measured(path, MEASURED)
    figures.append_measured(path, MEASURED)
    assert figures.read_measured(path) == [MEASURED, MEASURED]


def test_a_line_that_is_no_run_is_named(tmp_path):
    path = tmp_path / figures.HISTORY
    path.write_text(json.dumps({"figures": []}))
    with pytest.raises(UsageError, match="cannot read the history"):
        figures.read_measured(path)


def test_the_trend_is_of_one_machine():
    other = Measured((Figure("call_p50_ms", 1.0),), "64 cores", "kvm", (0.0, 0.0), "c")
    columns, rows = figures.trend([MEASURED, other], "2 cores")
    assert columns == ["commit", "0123abc"]
    assert rows == [
        ("when", "2026-11-29 18:00"),
        ("load", "0.1"),
        ("clone_p50_s", "0.151"),
        ("virtme_ng_per_clone_ratio", "18"),
    ]


def test_the_trend_shows_the_latest_runs():
    runs = [replace(MEASURED, commit=f"{number:07}") for number in range(9)]
    columns, _ = figures.trend(runs, "2 cores")
    assert columns[1:] == ["0000005", "0000006", "0000007", "0000008"]


def test_the_parts_of_check_are_the_commands_of_make():
    commands = costs.check_commands()
    names = list(map(costs.part_name, commands))
    assert names[1:4] == ["ruff check", "ruff format", "mypy"]
    assert "pytest scenarios/" in names
    assert len(set(names)) == len(names)
    assert not any(command.endswith("\\") for command in commands)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot measure the catalogue"):
        costs.measure_catalogue(1, "7.3", tmp_path)


def test_each_part_of_check_is_timed_and_a_failed_one_is_named(tmp_path, monkeypatch):
    (tmp_path / "Makefile").write_text("check:\n\techo one \\\n\t  | cat\n\tfalse two\n")
    monkeypatch.setattr(costs, "PROJECT", tmp_path)
    *parts, whole = costs.measure_check()
    assert [one.key for one in parts] == ["check_s: echo one", "check_s: false two"]
    assert ["exit code 1" in one.note for one in parts] == [False, True]
    assert whole.value == sum(one.value for one in parts)


@pytest.mark.parametrize("words", [["scenarios/vf_token"], ["--against", "."]])
def test_what_only_the_catalogue_takes_is_refused_without_it(words):
    done = CliRunner().invoke(bench, words)
    assert (done.exit_code, "--catalogue" in done.output) == (2, True)
