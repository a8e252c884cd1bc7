"""The table of claims and kernels, from results that were written down."""

import json
from dataclasses import replace

from vfio_lab.campaign import claim_markdown, claim_table, recorded
from vfio_lab.campaign.results import Outcome, Record, Results

KERNELS = ["6.12", "7.3"]


def ran(*records: tuple[str, str, Outcome, str]) -> Results:
    made = [Record(name, (claim,), "igb", end, why, 1.0, "") for name, claim, end, why in records]
    return Results({}, {}, 0.0, 1.0, 0, tuple(made))


RUNS = [
    ran(
        ("one", "A01", Outcome.PASSED, ""),
        ("two", "A02", Outcome.PASSED, ""),
        ("more", "A02", Outcome.KNOWN, "A02 not yet true: before <it>"),
    ),
    ran(
        ("one", "A01", Outcome.PASSED, ""),
        ("two", "A02", Outcome.PASSED, ""),
        ("more", "A02", Outcome.PASSED, ""),
        ("new", "A03", Outcome.FAILED, "expected EACCES"),
    ),
]
PROVEN = [Outcome.PASSED]


def test_claims_that_differ_come_first_and_the_worst_scenario_counts() -> None:
    table = claim_table.lines(RUNS)
    assert [line.claim for line in table] == ["A02", "A03", "A01"]
    assert [line.cells for line in table] == [
        (Outcome.KNOWN, Outcome.PASSED),
        (None, Outcome.FAILED),
        (Outcome.PASSED, Outcome.PASSED),
    ]


def test_a_claim_is_skipped_only_if_all_of_its_scenarios_are() -> None:
    skipped = ("other", "A01", Outcome.SKIPPED, "needs CONFIG_VIRTIO_IOMMU")
    runs = [ran(*(("one", "A01", end, "") for end in ends), skipped) for ends in ([], PROVEN)]
    (line,) = claim_table.lines(runs)
    assert line.cells == (Outcome.SKIPPED, Outcome.PASSED)


def test_the_text_fits_and_says_where_agreement_begins() -> None:
    table = list(claim_table.table_text(KERNELS, claim_table.lines(RUNS), 60))
    assert table[0].split() == KERNELS
    assert table[1].startswith("A02  not here  holds")
    assert table[2].startswith("A03  -         BROKEN")
    assert table[3].strip() == "alike on all:"
    assert all(len(line) <= 60 for line in table)


def test_the_page_and_the_record_carry_reasons_safely() -> None:
    table = claim_table.lines(RUNS)
    page = claim_table.table_page(KERNELS, table)
    assert 'title="A02 not yet true: before &lt;it&gt;"' in page
    assert page.count("<tr>") == 4
    first = json.loads(json.dumps(claim_table.line_record(KERNELS, table[0])))
    assert first["outcomes"] == {"6.12": "known", "7.3": "passed"}
    assert first["differs"]


def on(kernel: str, started: float, run: Results) -> Results:
    facts = {
        "name": kernel,
        "release": f"{kernel}-amd64",
        "version": f"{kernel}.9",
        "digest": kernel,
    }
    return replace(run, kernel=facts, started=started)


def test_runs_on_one_kernel_count_as_one_and_the_later_verdict_counts() -> None:
    again = ran(("more", "A02", Outcome.PASSED, ""))
    found = recorded.merged(
        [on("7.3", 3.0, RUNS[1]), on("6.12", 2.0, again), on("6.12", 1.0, RUNS[0])]
    )
    assert [run.kernel["name"] for run in found] == ["7.3", "6.12"]
    ended = {one.nodeid: one.outcome for one in found[1].scenarios}
    assert ended == dict.fromkeys(["one", "two", "more"], Outcome.PASSED)


def test_the_document_says_what_was_run_where_it_differs_and_where_it_does_not() -> None:
    want = ("gone", "A04", Outcome.SKIPPED, "A04 needs CONFIG_IOMMUFD, which kernel x lacks")
    runs = [
        on(name, 86400.0, replace(run, scenarios=(*run.scenarios, *ran(want).scenarios)))
        for name, run in zip(KERNELS, RUNS, strict=True)
    ]
    text = claim_markdown.table_markdown(runs, claim_table.lines(runs), "vfio-lab matrix")
    assert "| 6.12 | 6.12-amd64 | 6.12.9 | 1970-01-02 | 2 passed, 1 skipped, 1 known |" in text
    assert "## Where they differ (2 of 4 claims)" in text
    assert "| A02 | not here | holds | " in text
    assert "**holds**: A01." in text
    assert "**skipped, for want of `CONFIG_IOMMUFD`**: A04." in text
