"""What behaves differently from one kernel to the next, as Markdown fit for release notes."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vfio_lab.campaign import behaviour
from vfio_lab.campaign.behaviour import BehaviourRow, Comparison, deviation_text
from vfio_lab.campaign.results import Record, Results
from vfio_lab.errors import UsageError
from vfio_lab.spec.behaviour import load_explanations
from vfio_lab.spec.changes import Change, load_changes, parse_version
from vfio_lab.spec.claims import Claim, load_claims

WIDTH = 100
UNEXPLAINED = "Unexplained"
WRITE = "write"
NUMBER = re.compile(r"(?:0x)?[0-9a-f]*\d[0-9a-f]*")
SHAPE_WIDTH = 90
LONGEST_LIST = 12  # of what is explained; what is not is listed in full


@dataclass(frozen=True)
class Told:
    """A difference, and what explains it.

    Args:
        row: the difference.
        claims: IDs of the claims that are about the change, if there are any.
        changes: the kernel commits.
        why: what the kernel does differently, where no claim says so.
    """

    row: BehaviourRow
    claims: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    why: str = ""


def explained(before: Results, after: Results) -> tuple[Comparison, list[Told]]:
    """Return what differs between two kernels, with what explains it.

    A claim explains a difference if at least half of the scenarios that show it prove claims that a
    change began or ended between the two kernels.
    """
    compared = behaviour.compare_behaviour(before, after)
    between = [one for one in load_changes().values() if _has(after, one) and not _has(before, one)]
    records = {one.nodeid: one for one in (*before.scenarios, *after.scenarios)}
    return compared, [_told(row, records, between) for row in compared.rows]


def changes_markdown(runs: Sequence[Results], command: str) -> str:
    """Return what differs from each kernel to the next as a page of Markdown.

    Args:
        runs: one a kernel, in order.
        command: how the page was made.
    """
    return "\n".join(_page(runs, command)) + "\n"


def _page(runs: Sequence[Results], command: str) -> Iterator[str]:
    yield "# Behaviour by kernel\n"
    yield textwrap.fill(
        f"Written by `{command}`; do not edit. A line is one difference in what kernels answer to "
        "the same calls, log, or show in sysfs, with the number of scenarios that show it.",
        WIDTH,
        break_on_hyphens=False,
    )
    for before, after in itertools.pairwise(runs):
        compared, told = explained(before, after)
        unexplained = [one for one in told if not (one.changes or one.why)]
        yield f"\n## {_name(before)} to {_name(after)}\n"
        yield (
            f"{compared.compared} scenarios ran on both. {len(told)} differences, "
            f"{len(unexplained)} of them unexplained."
        )
        yield from _by_reason([one for one in told if one not in unexplained])
        if unexplained:
            yield f"\n### {UNEXPLAINED}\n"
            yield from _lines(unexplained)


def _by_reason(told: Sequence[Told]) -> Iterator[str]:
    groups: dict[str, list[Told]] = {}
    for one in told:
        groups.setdefault(", ".join(each.id for each in one.changes) or one.why, []).append(one)
    for reason, members in groups.items():
        yield f"\n### {reason}\n"
        changes = dict.fromkeys(str(each) for one in members for each in one.changes)
        why = dict.fromkeys(one.why for one in members if one.why and one.why != reason)
        claims = dict.fromkeys(claim for one in members for claim in one.claims)
        yield from (_item(text) for text in (*changes, *why))
        yield from (_item(f"{claim}: {load_claims()[claim].sentence}") for claim in claims)
        if changes or why or claims:
            yield ""
        lines = list(_lines(members))
        yield from lines[:LONGEST_LIST]
        if len(lines) > LONGEST_LIST:
            yield f"- and {len(lines) - LONGEST_LIST} more lines, see behaviour.json"


def _item(text: str) -> str:
    return textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _lines(members: Sequence[Told]) -> Iterator[str]:
    """Yield a line for each difference, one for those that only differ by numbers."""
    alike: dict[str, list[BehaviourRow]] = {}
    for one in members:
        alike.setdefault(_shape(one.row), []).append(one.row)
    for rows in alike.values():
        text, more = deviation_text(rows[0].deviation), ""
        if rows[0].deviation.kind == WRITE:
            registers = dict.fromkeys(row.deviation.subject.split()[1] for row in rows)
            text = f"writes to {', '.join(registers)}: {text.rpartition(': ')[2]}"
        elif len(rows) > 1:
            more = f", and {len(rows) - 1} like it"
        count = len({scenario for row in rows for scenario in row.scenarios})
        shown = text.replace("`", "'")
        yield f"- `{shown}`{more} ({count} scenario{'s' if count > 1 else ''})"


def _shape(row: BehaviourRow) -> str:
    """Return what differences that belong on one line have in common."""
    one = row.deviation
    if one.kind == WRITE:
        return f"{one.before} {one.after}"
    return NUMBER.sub("N", deviation_text(one))[:SHAPE_WIDTH]


def _told(row: BehaviourRow, records: dict[str, Record], between: Sequence[Change]) -> Told:
    text = deviation_text(row.deviation)
    for known in load_explanations().values():
        if known.pattern.search(text) and (known.change is None or known.change in between):
            return Told(row, (), (known.change,) if known.change else (), known.why)
    found: dict[Claim, tuple[Change, ...]] = {}
    proving = 0
    for nodeid in row.scenarios:
        told = records[nodeid].claims  # by an older lab, perhaps, which had others
        claims = [load_claims()[claim] for claim in told if claim in load_claims()]
        bound = {one: _changes(one, between) for one in claims}
        found |= {one: changes for one, changes in bound.items() if changes}
        proving += any(bound.values())
    if 2 * proving < len(row.scenarios):
        return Told(row)
    changes = dict.fromkeys(change for each in found.values() for change in each)
    return Told(row, tuple(one.id for one in found), tuple(changes))


def _changes(claim: Claim, between: Sequence[Change]) -> tuple[Change, ...]:
    return tuple(one for one in (*claim.since, *claim.until) if one in between)


def _has(run: Results, change: Change) -> bool:
    try:
        version = parse_version(str(run.kernel.get("version", run.kernel["release"])))
    except UsageError:
        return False
    return change.in_version(version)


def _name(run: Results) -> str:
    name, version = run.kernel["name"], run.kernel.get("version", run.kernel["release"])
    return name if name == version else f"{name} ({version})"
