"""The table of claims and kernels, from results that were written down."""

import json

from vfio_lab.campaign import claim_table
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


def test_claims_that_differ_come_first_and_the_worst_scenario_counts() -> None:
    table = claim_table.lines(RUNS)
    assert [line.claim for line in table] == ["A02", "A03", "A01"]
    assert [line.cells for line in table] == [
        (Outcome.KNOWN, Outcome.PASSED),
        (None, Outcome.FAILED),
        (Outcome.PASSED, Outcome.PASSED),
    ]


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
