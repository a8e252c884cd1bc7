"""The summary that goes into a reply."""

import subprocess
from dataclasses import replace

import pytest
from click.testing import CliRunner

from vfio_lab.campaign.behaviour import BehaviourRow, Comparison, write_comparisons
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.campaign.runs import Choice
from vfio_lab.campaign.series_trial import AFTER, BEFORE, try_command
from vfio_lab.cli import main
from vfio_lab.errors import UsageError
from vfio_lab.evidence.deviations import Deviation
from vfio_lab.report.summary import TESTED_BY, WIDTH, summarize
from vfio_lab.spec.claims import load_claims, threads
from vfio_lab.util.host import which

THREAD = "2020-vf-token"
WHERE = "scenarios/vf_token/test_match.py::test_it[a very long parameter that nobody may break]"


def found(*pairs, release="7.3.4-lab"):
    why = {Outcome.PASSED: ""}
    records = tuple(
        Record(
            *(f"{WHERE}{index}", (claim,), "igb", outcome),
            *(why.get(outcome, "it is not so\nand more"), 0.5, "e"),
        )
        for index, (claim, outcome) in enumerate(pairs)
    )
    host = {"qemu": "10.0.2", "accelerator": "tcg"}
    return Results({"name": "7.3", "release": release, "digest": "d"}, host, 0, 61, 0, records)


def test_it_fits_a_mail_and_names_nobody():
    outcomes = [(claim.id, Outcome.PASSED) for claim in load_claims().values()]
    text = summarize(found(*outcomes, ("A02", Outcome.FAILED)), THREAD)
    lines = text.splitlines()
    assert max(len(line) for line in lines if "::" not in line and "://" not in line) <= WIDTH
    assert TESTED_BY not in text
    assert "kernel    7.3.4-lab (7.3)" in lines
    assert f"{WHERE}{len(outcomes)}" in lines
    assert f"  {threads()[THREAD].link}" in lines
    assert "    it is not so" in lines


def test_a_thread_is_told_claim_by_claim():
    text = summarize(found(("A02", Outcome.PASSED), ("E02", Outcome.FAILED)), THREAD)
    assert "A02 proven" in text
    assert "E02" not in text


def test_the_worst_verdict_speaks_for_a_claim():
    text = summarize(found(("A02", Outcome.FAILED), ("A02", Outcome.PASSED)))
    assert "A02 contradicted" in text


def test_what_changed_is_told_against_a_base_the_worse_first():
    base = found(("A02", Outcome.FAILED), ("A03", Outcome.PASSED), release="7.3.4-base")
    new = found(("A02", Outcome.PASSED), ("A03", Outcome.FAILED), ("A04", Outcome.PASSED))
    lines = summarize(new, base=base).splitlines()
    start = lines.index("Against 7.3.4-base (7.3): 3 scenarios end otherwise")
    worse, *_claim, before, after = lines[start + 2 : lines.index("", start + 2)]
    assert (worse, before, after) == (
        f"{WHERE}1",
        "  before passed",
        "  after  failed: it is not so and more",
    )
    assert lines.index(f"{WHERE}0") > lines.index(f"{WHERE}1")
    assert "  before not run" in lines
    assert "no scenarios end otherwise" in summarize(base, base=base)


def test_behaviour_that_changed_and_that_nobody_asserts_is_told(series_run):
    changed = Deviation("call", "VFIO_DEVICE_GET_INFO.num_irqs", "5", "6")
    asserted = replace(changed, subject="VFIO_DEVICE_RESET")
    rows = [
        BehaviourRow(changed, (WHERE, "b.py::b"), (), ("", "")),
        BehaviourRow(asserted, ("c.py::c",), ("c.py::c",), ("", "")),
    ]
    write_comparisons([Comparison("7.3", "7.3+1", 26, tuple(rows))], series_run)
    lines = CliRunner().invoke(main, ["summary", str(series_run)]).stdout.splitlines()
    start = lines.index("Behaviour that no scenario asserts, in 26 scenarios: 1 difference")
    assert lines[start + 1 : start + 4] == [
        "  VFIO_DEVICE_GET_INFO.num_irqs: 5 -> 6",
        f"    {WHERE}",
        "",
    ]
    write_comparisons([Comparison("7.3", "7.3+1", 26, ())], series_run)
    text = CliRunner().invoke(main, ["summary", str(series_run)]).stdout
    assert "Behaviour that no scenario asserts, in 26 scenarios: no difference\n" in text


def test_what_could_not_be_judged_is_told_by_reason():
    skipped, lost = (
        replace(record, outcome=outcome, reason=reason, lost=lost)
        for record, outcome, reason, lost in zip(
            found(("A02", Outcome.SKIPPED), ("A03", Outcome.ERROR)).scenarios,
            (Outcome.SKIPPED, Outcome.ERROR),
            ("A02 needs CONFIG_NONE", "the host killed its QEMU"),
            ("", "killed"),
            strict=True,
        )
    )
    base = found(
        *(("A04", outcome) for outcome in (Outcome.PASSED, Outcome.PASSED, Outcome.FAILED))
    )
    new = replace(base, scenarios=(skipped, lost, base.scenarios[2]))
    lines = summarize(new, base=base).splitlines()
    start = lines.index("Not judged: 3 of 3 scenarios")
    assert set(lines[start + 1 :]) > {
        "  1 A02 needs CONFIG_NONE",
        "  1 failed before too",
        "  1 the host killed its QEMU",
    }
    assert "Not judged" not in summarize(base)


def test_a_series_is_repeated_in_three_lines():
    line = try_command("7.3", Choice(("scenarios/vf_token/test_match.py",), "not slow"))
    text = summarize(replace(found(("A02", Outcome.PASSED)), command=line))
    start = text.index("To repeat it:\n")
    install, fetch, again, *rest = text[start:].splitlines()[1:]
    assert install.startswith("  pip install vfio-lab==")
    assert fetch == "  b4 am -o- MESSAGE-ID >series.mbox"
    assert " ".join([again, *rest]).replace(" \\ ", "").split() == line.split()


def test_a_series_with_a_fragment_is_repeated_with_it():
    assert "--config fragment.config" in try_command("linux", Choice(()), configured=True)


@pytest.fixture
def series_run(tmp_path):
    """The folder that `vfio-lab try` leaves."""
    found(("A02", Outcome.PASSED)).write(tmp_path / BEFORE)
    found(("A02", Outcome.FAILED)).write(tmp_path / AFTER)
    write_comparisons([Comparison("7.3", "7.3+1", 1, ())], tmp_path)
    return tmp_path


def test_the_folder_of_a_series_is_compared_with_its_base(series_run):
    done = CliRunner().invoke(main, ["summary", str(series_run)])
    assert done.exit_code == 0
    assert "Against 7.3.4-lab (7.3): 1 scenario ends otherwise" in done.stdout.splitlines()
    assert TESTED_BY not in done.stdout


def test_gits_user_vouches_for_it_if_asked(series_run, monkeypatch):
    def summary():
        return CliRunner().invoke(main, ["summary", str(series_run), "--tested-by"])

    monkeypatch.chdir(series_run)
    monkeypatch.setenv("HOME", str(series_run))
    assert (summary().exit_code, "git knows no user.name" in summary().stderr) == (2, True)
    for key, value in (("user.name", "A Reviewer"), ("user.email", "reviewer@invalid")):
        subprocess.run([which("git"), "config", "--global", key, value], check=True)
    assert summary().stdout.splitlines()[-1] == "Tested-by: A Reviewer <reviewer@invalid>"


def test_an_unknown_thread_is_a_mistake():
    with pytest.raises(UsageError, match="2021"):
        summarize(found(), "2021")


def test_the_patches_that_were_tried_are_named():
    results = found(("A02", Outcome.PASSED))
    results.kernel["patches"] = [{"subject": "vfio: one"}, {"subject": "vfio: two"}]
    assert "patches   vfio: one; vfio: two" in summarize(results).splitlines()
