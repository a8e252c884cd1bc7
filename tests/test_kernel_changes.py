"""What behaves differently between kernels: told with its reason, and found by bisection."""

from dataclasses import replace

import pytest
from support.recorded_behaviour import device, info, record, write_run

from vfio_lab.campaign import behaviour, kernel_changes, wanted_change
from vfio_lab.campaign.results import Outcome
from vfio_lab.errors import UsageError
from vfio_lab.spec.changes import load_changes
from vfio_lab.spec.claims import load_claims

PASSED = Outcome.PASSED


@pytest.fixture
def runs(tmp_path):
    """Return two kernels of these versions, on which a scenario of these claims differs."""

    def make(versions, claims):
        return [
            write_run(
                tmp_path / version,
                {"a.py::test_a": (record(device(), info(irqs)), PASSED, claims)},
                version=version,
            )
            for irqs, version in zip((5, 6), versions, strict=True)
        ]

    return make


def claim_since():
    """Return a claim that one change began, and that change."""
    for claim in load_claims().values():
        if len(claim.since) == 1 and not claim.until:
            return claim, claim.since[0]
    raise AssertionError


def around(change):
    """Return a version without a change and one with it."""
    return "5.0", ".".join(map(str, change.mainline))


def test_a_difference_is_told_below_the_change_of_its_claim(runs):
    claim, change = claim_since()
    page = kernel_changes.changes_markdown(runs(around(change), (claim.id,)), "COMMAND")
    assert f"### {change.id}\n" in page
    assert str(change) in " ".join(page.split())
    assert f"- {claim.id}: " in page
    assert "- `VFIO_DEVICE_GET_INFO.num_irqs: 5 -> 6` (1 scenario)" in page
    assert "1 differences, 0 of them unexplained" in page


def test_differences_that_differ_by_numbers_are_one_line(tmp_path):
    """A page has one line for registers that are written alike, and for values that move alike."""
    write = "0000:01:00.0 {} <- 0x0"
    seen = [
        replace(record(device(), info(irqs)), log=(f"info: BAR 0 at {place}",), writes=writes)
        for irqs, place, writes in ((5, 10, ()), (5, 11, tuple(map(write.format, ("0x4", "0x6")))))
    ]
    before, after = (
        write_run(tmp_path / version, {"a.py::test_a": (one, PASSED, ())}, version=version)
        for one, version in zip(seen, ("5.0", "5.0.1"), strict=True)
    )
    page = kernel_changes.changes_markdown([before, after], "COMMAND")
    assert "- `writes to 0x4, 0x6: absent -> present` (1 scenario)" in page
    assert page.count("info: BAR 0 at") == 2  # gone and come


def test_a_difference_that_no_change_explains_is_unexplained(runs):
    claim, _ = claim_since()
    without = ("5.0", "5.0.1")
    assert not any(one.in_version((5, 0, 1)) for one in load_changes().values())
    page = kernel_changes.changes_markdown(runs(without, (claim.id,)), "COMMAND")
    assert "1 of them unexplained" in page
    assert f"### {kernel_changes.UNEXPLAINED}\n\n- `VFIO_DEVICE_GET_INFO" in page


def test_a_row_is_found_by_file_and_id(runs, tmp_path):
    before, after = runs(("5.0", "5.1"), ())
    compared = behaviour.compare_behaviour(before, after)
    path = behaviour.write_comparisons([compared], tmp_path)
    (row,) = compared.rows
    assert wanted_change.find_row(f"{path}#{row.deviation.id}") == row
    assert wanted_change.find_row(f"{tmp_path}#{row.deviation.id}") == row
    with pytest.raises(UsageError, match="there is no difference"):
        wanted_change.find_row(f"{path}#00000000")


def test_a_commit_is_judged_by_the_behaviour_of_the_good_end(runs, tmp_path):
    good, bad = runs(("5.0", "5.1"), ())
    where = tmp_path / "bisect"
    where.mkdir()
    assert wanted_change.verdict_by_change(good, where) is None
    (row,) = behaviour.compare_behaviour(good, bad).rows
    wanted_change.look_for(row, where)
    assert wanted_change.verdict_by_change(good, where) == (False, "")
    changed, reason = wanted_change.verdict_by_change(bad, where)
    assert changed
    assert reason == "VFIO_DEVICE_GET_INFO.num_irqs: 5 -> 6"
    assert wanted_change.verdict_by_change(good, where) == (False, "")
