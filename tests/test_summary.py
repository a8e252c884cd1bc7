"""The summary that goes into a reply."""

import pytest

from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import UsageError
from vfio_lab.report.summary import TESTED_BY, WIDTH, summarize
from vfio_lab.spec.claims import load_claims, threads

THREAD = "2020-vf-token"
WHERE = "scenarios/vf_token/test_match.py::test_it[a very long parameter that nobody may break]"


def found(*pairs, release="7.3.4-lab"):
    records = tuple(
        Record(f"{WHERE}{index}", (claim,), "igb", outcome, "it is not so\nand more", 0.5, "e")
        for index, (claim, outcome) in enumerate(pairs)
    )
    host = {"qemu": "10.0.2", "accelerator": "tcg"}
    return Results({"name": "7.3", "release": release, "digest": "d"}, host, 0, 61, 0, records)


def test_it_fits_a_mail_and_leaves_the_name_to_a_person():
    outcomes = [(claim.id, Outcome.PASSED) for claim in load_claims().values()]
    text = summarize(found(*outcomes, ("A02", Outcome.FAILED)), THREAD)
    lines = text.splitlines()
    assert max(len(line) for line in lines if "::" not in line and "://" not in line) <= WIDTH
    assert lines[-1] == TESTED_BY
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


def test_only_what_changed_is_told_against_a_base():
    base = found(("A02", Outcome.PASSED), ("A03", Outcome.PASSED), release="7.3.4-base")
    new = found(("A02", Outcome.FAILED), ("A03", Outcome.PASSED), ("A04", Outcome.PASSED))
    text = summarize(new, base=base)
    assert "Against 7.3.4-base: 2 claims changed" in text
    assert "A02 proven -> contradicted" in text
    assert "A04 not tested -> proven" in text
    assert "A03" not in text
    assert "no claims changed" in summarize(base, base=base)


def test_an_unknown_thread_is_a_mistake():
    with pytest.raises(UsageError, match="2021"):
        summarize(found(), "2021")


def test_the_patches_that_were_tried_are_named():
    results = found(("A02", Outcome.PASSED))
    results.kernel["patches"] = [{"subject": "vfio: one"}, {"subject": "vfio: two"}]
    assert "patches   vfio: one; vfio: two" in summarize(results).splitlines()
