"""The claims: whether the data is sound, and what is expected of which kernel."""

import json
import re

import pytest
from click.testing import CliRunner

from vfio_lab.campaign.results import Outcome
from vfio_lab.cli.claims import claims as command
from vfio_lab.cli.claims import listing
from vfio_lab.errors import UsageError
from vfio_lab.spec.changes import Change
from vfio_lab.spec.claims import (
    Claim,
    Expectation,
    Status,
    Validity,
    area_called,
    areas,
    expectation,
    load_claims,
    order,
    select,
    threads,
)
from vfio_lab.spec.scenarios import by_claim, scenario_catalogue

COUNTS = {"A": 50, "B": 42, "C": 46, "D": 41, "E": 35, "F": 60}
EARLY = Change("early", "an early change", (6, 6), None, (), (), "made up.")
LATE = Change("late", "a late change", (6, 17), None, ((6, 12, 50),), (), "made up.")
LONGEST_SENTENCE = 260
# A file of the kernel, or of a user of vfio that is named, with functions and a note.
SOURCE = re.compile(
    r"(drivers|include|kernel|lib|mm|samples|tools|virt|QEMU hw|libvirt src)/[\w./-]+"
    r"(:\w+(, \w+)*)?( \([^()]+\))?"
)
ORIGIN = re.compile(r"(Documentation|include/uapi)/[\w./-]+:\w+|commit [0-9a-f]{12}|CVE-\d+-\d+")
FILES_WITHOUT_FUNCTIONS = ("tools/testing/selftests/", "libvirt ")
# Words at the start of a sentence that point at another sentence.
POINTING = (
    *("As for", "The same", "It", "They", "He", "So", "And", "But", "Also", "Nor", "Neither"),
    *("This", "That", "These", "Those", "Such", "There"),
)


def holds(claim, version):
    return expectation(claim, lambda change: change.in_version(version))


def faults_of(sentence):
    """Return what keeps a sentence from being understood alone, as far as a test can tell."""
    pointing = [one for one in POINTING if re.match(rf"{one}\b", sentence)]
    return [
        *(f"begins with {one!r}" for one in pointing),
        *([] if sentence[:1].isalpha() else ["does not begin with a letter"]),
        *([] if sentence.endswith(".") else ["does not end in a full stop"]),
        *([] if len(sentence) <= LONGEST_SENTENCE else ["is too long"]),
        *([] if not re.search(r"\b[A-R]\d\d\b", sentence) else ["names a claim"]),
    ]


def made_up(since=(), until=()):
    return Claim("Z01", "It is so.", "mainline", "nowhere", Status.SHOWN, since, until)


def test_every_area_is_complete_and_in_order():
    ids = {f"{area}{number:02}" for area, count in COUNTS.items() for number in range(1, count + 1)}
    assert set(load_claims()) >= ids, (
        "claims of the reference are never dropped; others may join them"
    )
    assert list(load_claims()) == sorted(load_claims(), key=order)


@pytest.mark.parametrize("claim", load_claims().values(), ids=lambda one: one.id)
def test_the_data_is_sound(claim):
    assert claim.thread in threads()
    assert area_called(claim.area).letter == claim.area
    assert faults_of(claim.sentence) == []
    for part in claim.source.split("; "):
        assert SOURCE.fullmatch(part)
        assert ":" in part or part.startswith(FILES_WITHOUT_FUNCTIONS)
    assert all(ORIGIN.fullmatch(one) for one in claim.origin.split(", ") if claim.origin)
    assert all(re.fullmatch(r"[A-Z0-9_]+", option) for option in claim.needs)
    assert (claim.status is Status.NOT_HERE) <= bool(claim.why)
    assert not set(claim.since) & set(claim.until)


@pytest.mark.parametrize("scenario", scenario_catalogue().values(), ids=lambda one: one.nodeid)
def test_what_a_scenario_shows_stands_alone(scenario):
    assert faults_of(scenario.sentence) == []


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("As for the container.", "begins with 'As for'"),
        ("The same for INTx.", "begins with 'The same'"),
        ("So does setting the container's no-IOMMU type.", "begins with 'So'"),
        ("A VF opens with its PF's token", "does not end in a full stop"),
        ("", "does not begin with a letter"),
        ("A VF opens" + 125 * " a VF" + ".", "is too long"),
        ("A device behaves as in F61.", "names a claim"),
    ],
)
def test_a_sentence_that_does_not_stand_alone_is_noticed(sentence, fault):
    assert fault in faults_of(sentence)


def test_areas_are_named_by_letter_and_by_word_and_in_order():
    letters = [area.letter for area in areas().values()]
    assert letters == sorted(set(letters))
    assert all(area_called(area.letter.lower()) is area for area in areas().values())
    assert area_called("VF_token").letter == "A"


def test_every_thread_but_mainline_has_a_link():
    unlinked = [name for name, thread in threads().items() if not thread.link]
    assert unlinked == ["mainline"]
    assert all(one.link.startswith("https://") for one in threads().values() if one.link)


def test_no_sentence_is_said_twice():
    sentences = [claim.sentence for claim in load_claims().values()]
    assert len(set(sentences)) == len(sentences)


def test_each_claim_could_hold_on_some_kernel():
    for claim in load_claims().values():
        since = max((one.mainline for one in claim.since), default=(0,))
        until = min((one.mainline for one in claim.until), default=(99,))
        assert since < until, claim.id


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        ((6, 1, 192), Validity.NOT_YET),
        ((6, 12, 49), Validity.HOLDS),
        ((6, 12, 50), Validity.ENDED),
        ((6, 16, 9), Validity.HOLDS),
        ((7, 3, 4), Validity.ENDED),
    ],
)
def test_a_range_is_made_of_changes(version, outcome):
    verdict = holds(made_up(since=(EARLY,), until=(LATE,)), version)
    assert verdict.outcome is outcome
    assert bool(verdict) is (outcome is Validity.HOLDS)


def test_a_kernel_that_knows_its_changes_is_asked_itself():
    claim = made_up(until=(LATE,))
    assert expectation(claim, has=lambda _: False)
    assert expectation(claim, has=lambda change: change is LATE) == Expectation(
        Validity.ENDED, LATE
    )


def test_a_verdict_names_the_change_that_explains_it():
    assert str(holds(made_up(since=(LATE,)), (6, 1))) == (
        'not yet true: before late ("a late change", 6.17)'
    )
    assert str(holds(made_up(until=(LATE,)), (7, 3))) == (
        'no longer true: since late ("a late change", 6.17)'
    )
    assert str(holds(made_up(), (7, 3))) == "holds"


@pytest.mark.parametrize(
    ("claim", "packaged"),
    [
        ("A02", "111"),
        ("A38", "010"),
        ("A39", "001"),
        ("A40", "010"),
        ("C03", "110"),
        ("D11", "010"),
    ],
)
def test_the_packaged_kernels_get_the_verdicts_their_sources_call_for(claim, packaged):
    versions = ((6, 1, 192), (6, 12, 117), (7, 3, 4))
    assert "".join(str(int(bool(holds(load_claims()[claim], one)))) for one in versions) == packaged


@pytest.mark.parametrize(("wrong", "right"), [("A2", "A20"), ("a02", "A02"), ("AO2", "A02")])
def test_an_unknown_claim_is_answered_with_a_guess(wrong, right):
    with pytest.raises(UsageError, match=right):
        load_claims()[wrong]


@pytest.mark.parametrize("area", ["b", "B", "sriov"])
def test_claims_are_selected_by_thread_and_area(area):
    chosen = select("2018-unmanaged-sriov", area)
    assert chosen
    assert {(one.thread, one.area) for one in chosen} == {("2018-unmanaged-sriov", "B")}
    assert select() == list(load_claims().values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"thread": "2020-vf-tokens"}, "2020-vf-token"),
        ({"area": "Z"}, "vf_token, sriov, hot_reset"),
    ],
)
def test_an_unknown_thread_or_area_is_answered_with_what_there_is(arguments, told):
    with pytest.raises(UsageError, match=told):
        select(**arguments)


def test_the_listing_says_who_holds_and_why_not():
    lines = list(listing([load_claims()["A38"], load_claims()["F55"]], 80, {}))
    text = "\n".join(lines)
    assert "since 5fcc26969a16, until 86624ba3b522" in text
    assert "not here: QEMU emulates none" in text
    assert lines[-1] == "2 claims: 1 shown, 1 not here"
    assert max(len(line) for line in lines if "::" not in line) <= 80


def test_the_listing_names_scenarios_and_the_worst_of_their_last_verdicts():
    nodeids = by_claim()["A02"]
    verdicts = {
        "7.3": {
            f"{nodeids[0]}[no token]": Outcome.PASSED,
            f"{nodeids[0]}[wrong token]": Outcome.FAILED,
        },
        "6.12": dict.fromkeys(nodeids, Outcome.PASSED),
        "6.1": {"scenarios/elsewhere.py::test_it": Outcome.PASSED},
    }
    text = "\n".join(listing([load_claims()["A02"]], 80, verdicts))
    assert "7.3 failed; 6.12 passed]" in text
    assert set(nodeids) <= set(text.split())


def test_the_command_prints_json_for_programs():
    result = CliRunner().invoke(command, ["--json", "--area", "A"])
    records = json.loads(result.output)
    assert result.exit_code == 0
    assert [one["id"] for one in records] == [f"A{number:02}" for number in range(1, 51)]
    assert records[37]["until"] == ["86624ba3b522"]
    assert set(records[1]["scenarios"]) == set(by_claim()["A02"])


def test_the_command_lists_all_by_default():
    result = CliRunner().invoke(command)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith(f"{len(load_claims())} claims: ")
