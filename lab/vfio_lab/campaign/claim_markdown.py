"""The table of claims and kernels as a page of documentation."""

from __future__ import annotations

import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from vfio_lab.campaign.claim_table import Line, mark
from vfio_lab.campaign.results import Outcome, Results

WIDTH = 100
OPTION = re.compile(r"needs (CONFIG_\w+)")


def table_markdown(runs: Sequence[Results], table: Sequence[Line], command: str) -> str:
    """Return how claims ended on kernels as a page of Markdown.

    Args:
        runs: one run for each kernel.
        table: the claims, those that differ first.
        command: the command that made the page.
    """
    return "\n".join(_page(runs, table, command)) + "\n"


def _page(runs: Sequence[Results], table: Sequence[Line], command: str) -> Iterator[str]:
    yield "# Claims by kernel\n"
    yield textwrap.fill(f"Written by `{command}`; do not edit.", WIDTH) + "\n"
    yield from _kernels(runs)
    names = [run.kernel["name"] for run in runs]
    differing = [line for line in table if line.differs]
    yield f"\n## Where they differ ({len(differing)} of {len(table)} claims)\n"
    yield _row("claim", *names, "sentence")
    yield _row(*["---"] * (len(names) + 2))
    for line in differing:
        yield _row(line.claim, *map(mark, line.cells), line.sentence)
    yield "\n## Where they agree\n"
    yield from _agreeing([line for line in table if not line.differs])


def _kernels(runs: Sequence[Results]) -> Iterator[str]:
    yield _row("kernel", "release", "version", "run on", "scenarios")
    yield _row(*["---"] * 5)
    for run in runs:
        counts = Counter(one.outcome for one in run.scenarios)
        shown = ", ".join(f"{counts[one]} {one.value}" for one in Outcome if counts[one])
        day = datetime.fromtimestamp(run.started, UTC).date().isoformat()
        kernel = run.kernel
        yield _row(
            kernel["name"], kernel["release"], kernel.get("version", kernel["release"]), day, shown
        )


def _agreeing(table: Sequence[Line]) -> Iterator[str]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for line in table:
        said = mark(line.cells[0])
        option = OPTION.search(line.reasons[0]) if line.cells[0] is Outcome.SKIPPED else None
        groups[f"{said}, for want of `{option[1]}`" if option else said].append(line.claim)
    for said, claims in groups.items():
        yield textwrap.fill(f"**{said}**: {', '.join(claims)}.", WIDTH) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
