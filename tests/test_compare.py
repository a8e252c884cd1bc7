"""Runs of the same scenarios side by side: what differs, what was judged, what a command says."""

from dataclasses import replace

import pytest

from vfio_lab.campaign import claim_table, compare
from vfio_lab.campaign.mutants import Mutant, MutationResult, mutant_tally, mutants_exit_code
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import BuildError, HostError

PASSED, FAILED, ERROR, SKIPPED, KNOWN = (
    Outcome.PASSED,
    Outcome.FAILED,
    Outcome.ERROR,
    Outcome.SKIPPED,
    Outcome.KNOWN,
)


LOST = "lost"  # to the host, as when QEMU is killed


def record(name, end):
    """Return how a scenario ended."""
    outcome, lost = (ERROR, "QEMU was killed") if end == LOST else (end, "")
    return Record(name, ("A01",), "igb", outcome, "", 1.0, "", lost=lost)


def differences(*pairs):
    """Return scenarios that ended so before and after; None where one did not run."""
    runs = []
    for side in (0, 1):
        records = [
            record(f"scenario {number}", pair[side])
            for number, pair in enumerate(pairs)
            if pair[side] is not None
        ]
        runs.append(Results({}, {}, 0.0, 1.0, 0, tuple(records)))
    return compare.rows(runs)


@pytest.mark.parametrize(
    ("pairs", "code", "words"),
    [
        ([(PASSED, PASSED)], 0, "1 scenarios, 0 differ"),
        ([(PASSED, FAILED)], 1, "1 scenarios, 1 differ"),
        ([(FAILED, PASSED)], 0, "1 scenarios, 1 differ"),
        ([(KNOWN, KNOWN)], 0, "1 scenarios, 0 differ"),
        ([(FAILED, FAILED)], 125, "1 scenarios, 0 differ, 1 not judged: failed before too"),
        ([(ERROR, FAILED)], 125, "1 scenarios, 1 differ, 1 not judged: failed before too"),
        ([(SKIPPED, SKIPPED)], 125, "1 scenarios, 0 differ, 1 not judged: skipped or not run"),
        ([(PASSED, None)], 125, "1 scenarios, 1 differ, 1 not judged: skipped or not run"),
        ([(None, FAILED)], 1, "1 scenarios, 1 differ"),
        ([(PASSED, LOST)], 125, "1 scenarios, 1 differ, 1 not judged: skipped or not run"),
        ([(LOST, FAILED)], 125, "1 scenarios, 1 differ, 1 not judged: skipped or not run"),
        (
            [(FAILED, FAILED), (PASSED, PASSED)],
            0,
            "2 scenarios, 0 differ, 1 not judged: failed before too",
        ),
        ([], 125, "0 scenarios, 0 differ"),
    ],
)
def test_a_patch_is_fine_only_where_something_judged_it(pairs, code, words):
    found = differences(*pairs)
    assert compare.exit_code(found) == code
    assert compare.difference_tally(found) == words


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([(PASSED, SKIPPED)], 0),
        ([(KNOWN, PASSED)], 0),
        ([(PASSED, FAILED), (PASSED, PASSED)], 1),
        ([(FAILED, FAILED)], 1),
        ([(SKIPPED, None)], 125),
        ([(LOST, SKIPPED)], 125),
        ([], 125),
    ],
)
def test_kernels_are_fine_only_where_a_scenario_ran(pairs, code):
    assert compare.exit_code_of_all(differences(*pairs)) == code


def test_claims_that_were_skipped_everywhere_are_counted():
    def line(*cells):
        return claim_table.Line("A01", "so", cells, ("",) * len(cells))

    table = [line(PASSED, SKIPPED), line(SKIPPED, SKIPPED), line(SKIPPED, None)]
    assert claim_table.claim_tally(table) == (
        "3 claims, 2 differ, 2 not judged: skipped on every kernel"
    )


def fault(killed_by="", *, judged=True, equivalent=""):
    return MutationResult(
        Mutant("name", "7.3", "breaks", (), (), equivalent), killed_by, "", judged
    )


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        ([fault("a test"), fault(equivalent="alike")], 0, "2 of 2 as they should be"),
        ([fault("a test"), fault()], 1, "1 of 2 as they should be"),
        ([fault("a test", equivalent="alike")], 1, "0 of 1 as they should be"),
        (
            [fault("a test"), fault(judged=False)],
            125,
            "1 of 2 as they should be, 1 not judged",
        ),
        ([fault(), fault(judged=False)], 1, "0 of 2 as they should be, 1 not judged"),
        ([], 125, "0 of 0 as they should be"),
    ],
)
def test_faults_are_as_expected_only_where_they_were_judged(found, code, words):
    assert mutants_exit_code(found) == code
    assert mutant_tally(found) == words


def test_a_reason_is_told_without_the_values_that_pytest_adds():
    refused = "AssertionError: expected EACCES,\nbut refused with EPERM\nassert 1 == 13"
    told = compare.told(replace(record("scenario", FAILED), reason=refused))
    assert told == "failed: expected EACCES, but refused with EPERM"
    assert compare.told(record("scenario", PASSED)) == "passed"


def test_a_mutant_that_could_not_be_judged_says_why():
    fault = Mutant("f", "7.3", "b", (), ())
    output = "collecting\nERROR tests/a.py - there is no change 1234\n1 error in 2.6s\n"
    error = HostError("the scenarios could not be run", seen="exit code 4", tail=output)
    words = "the scenarios could not be run: ERROR tests/a.py - there is no change 1234"
    assert MutationResult.unjudged(fault, error).reason == words
    error = BuildError("it does not compile", seen="a.c:7: error: no such thing")
    assert str(MutationResult.unjudged(fault, error)).endswith(f"{error.what}: {error.seen}")
    assert MutationResult.unjudged(fault, HostError("no space")).reason == "no space"
