"""An index of reports in one folder: the newest first, what changed from each to the next."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vfio_lab.campaign import compare
from vfio_lab.campaign.results import Results, read_results
from vfio_lab.errors import UsageError
from vfio_lab.report.compared import ANCHOR_DIGITS, CHANGES, kind_of_change
from vfio_lab.report.pages import render, text
from vfio_lab.report.view import (
    WORDS,
    RunView,
    ScenarioView,
    counts,
    failures,
    headline,
    scenario_views,
)
from vfio_lab.util.cache import digest
from vfio_lab.util.files import write_whole

REPORT = "report.json"
SCHEMA = 1
INDEX, LATEST, FEED, STYLE = "index.html", "latest.html", "feed.xml", "style.css"
MARK = '<meta name="generator" content="vfio-lab index">'
MOST_ENTRIES = 50
MOST_CHANGES = 10
READABLE = 0o644


@dataclass(frozen=True)
class ChangedScenario:
    """A scenario that ended differently from the report before.

    Args:
        view: the scenario in the newer report.
        before: the word for its verdict in the older report.
        change: `worse`, `better` or `other`.
    """

    view: ScenarioView
    before: str
    change: str

    @property
    def parameters(self) -> str:
        """The parameters in its name, by which scenarios with one sentence differ."""
        _, bracket, rest = self.view.name.partition("[")
        return bracket + rest


@dataclass(frozen=True)
class PublishedRun:
    """A run of a published report.

    Args:
        view: the run.
        since: the folder of the last report before with a run on the same kernel, or empty.
        changes: what ended differently there, what got worse first.
    """

    view: RunView
    since: str = ""
    changes: tuple[ChangedScenario, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether a scenario failed."""
        return bool(failures(scenario_views(self.view)))


@dataclass(frozen=True)
class PublishedReport:
    """A report in the folder that is published.

    Args:
        name: its folder.
        runs: the runs that it shows.
    """

    name: str
    runs: tuple[PublishedRun, ...]

    @cached_property
    def verdict(self) -> str:
        """The verdict as a line, and the number of scenarios that got worse."""
        views = [view for run in self.runs for view in scenario_views(run.view)]
        worse = sum(one.change == "worse" for run in self.runs for one in run.changes)
        return headline(views) + (f", {worse} got worse" if worse else "")

    @property
    def bad(self) -> bool:
        """Whether a scenario failed in one of its runs."""
        return any(run.bad for run in self.runs)

    @property
    def anchor(self) -> str:
        """Its name in URLs of the index."""
        return f"r-{digest(self.name)[:ANCHOR_DIGITS]}"

    @property
    def ended(self) -> float:
        """When its last run ended, in seconds since the epoch."""
        return max(run.view.results.started + run.view.results.seconds for run in self.runs)

    @property
    def updated(self) -> str:
        """When its last run ended, as a feed says it."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.ended))


def describe_report(target: Path, files: Iterable[tuple[str, str]]) -> None:
    """Say in a report which runs it shows, for an index to find.

    Args:
        target: the report's folder.
        files: the label of each run, and its file with results.
    """
    runs = [{"label": label, "results": name} for label, name in files]
    data = {"schema": SCHEMA, "runs": runs}
    write_whole(target / REPORT, json.dumps(data, indent=1) + "\n", READABLE)


def write_index(folder: Path, url: str = "") -> Path:
    """Write the index of the reports in a folder; return its first page.

    Args:
        folder: each folder in it may be a report.
        url: where the folder is published; without it there is no feed.

    Raises:
        UsageError: the folder has no report, or a first page that is no index.
    """
    _check_folder(folder)
    found = {path.name: _runs(path) for path in sorted(folder.iterdir()) if _is_report(path)}
    readable = {name: runs for name, runs in found.items() if runs}
    if not readable:
        raise UsageError(
            f"{folder} has no report to list",
            expected=f"folders with {REPORT} and results that this version can read",
            seen=f"folders of other versions: {', '.join(found)}" if found else "none",
            hint=f"write one with: vfio-lab report RUN --to {folder}/NAME",
        )
    reports = _published(readable)
    values: dict[str, Any] = {
        "reports": reports,
        "unread": [name for name, runs in found.items() if not runs],
        "url": url.rstrip("/"),
        "most": MOST_CHANGES,
        "counts": counts,
    }
    if url:
        entries = reports[:MOST_ENTRIES]
        write_whole(folder / FEED, render("feed.xml", **{**values, "reports": entries}), READABLE)
    write_whole(folder / STYLE, text(STYLE), READABLE)
    write_whole(folder / LATEST, render("latest.html", name=reports[0].name), READABLE)
    return write_whole(folder / INDEX, render("reports.html", **values), READABLE)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(
            f"{folder} has no report to list",
            expected="a folder that contains folders with reports",
            seen="no folder",
            hint=f"write a report with: vfio-lab report RUN --to {folder}/NAME",
        )
    index = folder / INDEX
    if index.exists() and MARK not in index.read_text(errors="replace"):
        raise UsageError(
            f"{folder} has a page of its own",
            expected=f"no {INDEX}, or that of an older index",
            seen="a report" if _is_report(folder) else "another page",
            hint="name the folder that contains the folders of the reports",
        )


def _is_report(folder: Path) -> bool:
    return (folder / REPORT).is_file() and not folder.name.startswith(".")


def _runs(folder: Path) -> list[RunView]:
    """Return the runs of a report; none if it is that of another version, or damaged."""
    try:
        described = json.loads((folder / REPORT).read_text())
        if described["schema"] != SCHEMA:
            return []
        return [
            RunView(read_results(folder, Path(one["results"]).name), folder, str(one["label"]))
            for one in described["runs"]
        ]
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return []


def _published(found: dict[str, list[RunView]]) -> list[PublishedReport]:
    """Return reports with what changed in them, the newest first."""
    last: dict[tuple[str, str], RunView] = {}
    reports = []
    for name in sorted(
        found, key=lambda one: (max(run.results.started for run in found[one]), one)
    ):
        runs = []
        for run in found[name]:
            before = last.get(_same(run))
            changes = tuple(_changes(before.results, run)) if before else ()
            runs.append(PublishedRun(run, before.folder.name if before else "", changes))
        last |= {_same(run): run for run in found[name]}
        reports.append(PublishedReport(name, tuple(runs)))
    return reports[::-1]


def _began(runs: Iterable[RunView]) -> float:
    return max(run.results.started for run in runs)


def _same(run: RunView) -> tuple[str, str]:
    """Return what runs on one kernel have in common: of a tree, whose commits change, its name."""
    kernel = run.results.kernel
    name = run.label.partition("+")[0] if kernel.get("git") else run.label
    return name, str(kernel.get("architecture", ""))


def _changes(before: Results, run: RunView) -> Sequence[ChangedScenario]:
    views = {view.record.nodeid: view for view in scenario_views(run)}
    changed = list(_changed(compare.rows([before, run.results]), views))
    return sorted(changed, key=lambda one: (CHANGES.index(one.change), one.view.name))


def _changed(
    rows: Iterable[compare.Difference], views: dict[str, ScenarioView]
) -> Iterator[ChangedScenario]:
    for row in rows:
        old = row.records[0]
        if old is not None and row.nodeid in views and row.differs:
            yield ChangedScenario(views[row.nodeid], WORDS[old.outcome], kind_of_change(row))
