"""A table of claims by kernel, from the same scenarios on each; differences come first."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vfio_lab.campaign import compare
from vfio_lab.campaign.results import (
    Outcome,
    Record,
    Results,
    outcome_of_claim,
)
from vfio_lab.spec import claims

MARKS = {
    Outcome.PASSED: "holds",
    Outcome.SKIPPED: "skipped",
    Outcome.KNOWN: "not here",
    Outcome.FAILED: "BROKEN",
    Outcome.ERROR: "error",
}
NOT_RUN = "-"
STYLE = """\
body { font: 15px/1.4 sans-serif; margin: 2em; } table { border-collapse: collapse; }
td, th { border: 1px solid #ccc; padding: .2em .6em; text-align: left; vertical-align: top; }
.holds { background: #dfd; } .BROKEN, .error { background: #fbb; } .not { background: #ffc; }
.skipped { color: #888; }"""


@dataclass(frozen=True)
class Line:
    """One claim on all kernels.

    Args:
        claim: its ID.
        sentence: what it says.
        cells: the worst outcome of its scenarios that were not skipped on each kernel, None where
            none was run.
        reasons: the reason of that outcome on each kernel.
    """

    claim: str
    sentence: str
    cells: tuple[Outcome | None, ...]
    reasons: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the kernels disagree."""
        return len(set(self.cells)) > 1

    @property
    def judged(self) -> bool:
        """Whether a scenario ran on any of the kernels."""
        return not {None, Outcome.SKIPPED}.issuperset(self.cells)


def lines(runs: Sequence[Results]) -> list[Line]:
    """Return the claims of some runs, those that differ first."""
    by_claim: defaultdict[str, list[tuple[Record | None, ...]]] = defaultdict(list)
    for row in compare.rows(runs):
        for claim in row.claims:
            by_claim[claim].append(row.records)
    found = [_line(claim, by_claim[claim]) for claim in sorted(by_claim, key=claims.order)]
    return sorted(found, key=lambda line: not line.differs)


def claim_tally(table: Sequence[Line]) -> str:
    """Return the number of claims, of those that differ, and of those that were not judged."""
    parts = [f"{len(table)} claims", f"{sum(line.differs for line in table)} differ"]
    not_judged = sum(not line.judged for line in table)
    parts += [f"{not_judged} not judged: skipped on every kernel"] if not_judged else []
    return ", ".join(parts)


def table_text(kernels: Sequence[str], table: Iterable[Line], width: int) -> Iterator[str]:
    """Yield the lines of a table for a terminal.

    Args:
        kernels: their names, one column each.
        table: the rows, those that differ first.
        width: columns of the terminal; longer lines are cut.
    """
    columns = [max(len(name), *(len(mark) for mark in MARKS.values())) for name in kernels]
    head = "  ".join(name.ljust(size) for name, size in zip(kernels, columns, strict=True))
    yield f"     {head}"
    differed = True
    for line in table:
        if differed and not line.differs:
            differed = False
            yield "     alike on all:"
        cells = "  ".join(
            mark(cell).ljust(size) for cell, size in zip(line.cells, columns, strict=True)
        )
        yield f"{line.claim:<5}{cells}  {line.sentence}"[:width]


def table_page(kernels: Sequence[str], table: Iterable[Line]) -> str:
    """Return a table as a web page that needs no other file."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in kernels)
    body = "\n".join(_html_row(line) for line in table)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>vfio on {len(kernels)} kernels"
        f"</title><style>{STYLE}</style>\n<table><tr><th>claim</th>{head}<th>sentence</th></tr>\n"
        f"{body}\n</table></html>\n"
    )


def line_record(kernels: Sequence[str], line: Line) -> dict[str, object]:
    """Return a line as JSON shows it."""
    cells = [None if cell is None else cell.value for cell in line.cells]
    return {
        "claim": line.claim,
        "sentence": line.sentence,
        "differs": line.differs,
        "outcomes": dict(zip(kernels, cells, strict=True)),
        "reasons": dict(zip(kernels, line.reasons, strict=True)),
    }


def mark(outcome: Outcome | None) -> str:
    """Return an outcome as the tables show it."""
    return NOT_RUN if outcome is None else MARKS[outcome]


def _line(claim: str, rows: Sequence[tuple[Record | None, ...]]) -> Line:
    cells, reasons = [], []
    for records in zip(*rows, strict=True):
        there = [one for one in records if one is not None]
        outcome = outcome_of_claim(one.outcome for one in there)
        cells.append(outcome)
        reasons.append(next((one.reason for one in there if one.outcome is outcome), ""))
    return Line(claim, claims.load_claims()[claim].sentence, tuple(cells), tuple(reasons))


def _html_row(line: Line) -> str:
    cells = "".join(
        f'<td class="{mark(cell)}" title="{html.escape(reason)}">{mark(cell)}</td>'
        for cell, reason in zip(line.cells, line.reasons, strict=True)
    )
    return f"<tr><td>{line.claim}</td>{cells}<td>{html.escape(line.sentence)}</td></tr>"
