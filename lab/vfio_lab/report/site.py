"""The report as files: an index, a page for scenarios, and the data that the page loads."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vfio_lab.campaign.results import RESULTS, Results, read_results
from vfio_lab.errors import UsageError
from vfio_lab.report.compared import compare_runs
from vfio_lab.report.pages import plain, render, text
from vfio_lab.report.picture import Picture
from vfio_lab.report.published import describe_report
from vfio_lab.report.tolerant import printable
from vfio_lab.report.view import (
    ScenarioView,
    by_file,
    by_reason,
    counts,
    failures,
    headline,
    run_views,
    scenario_views,
    sections,
    shown_and_left,
)
from vfio_lab.spec.claims import load_claims

PLAIN_FILES = (
    "scenario.html",
    "compare.html",
    "style.css",
    "common.js",
    "index.js",
    "machine.js",
    "scenario.js",
    "compare.js",
)
JUNIT = "junit.xml"
MARK = '<meta name="generator" content="vfio-lab">'


def check_target(target: Path) -> None:
    """Check that a folder is new, empty or an older report.

    Raises:
        UsageError: the folder contains other files.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    index = target / "index.html"
    if not (index.is_file() and MARK in index.read_text(errors="replace")):
        raise UsageError(
            f"{target} is neither empty nor a report",
            seen="other files",
            hint="name a new folder for the report",
        )


def write(runs: Sequence[Path], target: Path) -> Path:
    """Write the report of some runs atomically; return its first page.

    Args:
        runs: the runs' folders; the first is what the others are compared with.
        target: a folder that does not exist yet, is empty or contains an older report.

    Raises:
        UsageError: a run's folder has no results, or the target contains other files.
    """
    check_target(target)
    found = [(read_results(run), run) for run in runs]
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _write(found, scratch)
        shutil.rmtree(target, ignore_errors=True)
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target / "index.html"


def _write(found: Sequence[tuple[Results, Path]], target: Path) -> None:
    (target / "data").mkdir(parents=True)
    runs = run_views(found)
    scenarios = [view for run in runs for view in scenario_views(run)]
    places: defaultdict[str, list[ScenarioView]] = defaultdict(list)
    for view in scenarios:
        places[view.record.nodeid].append(view)
    for view in scenarios:
        page = _page(view, places[view.record.nodeid])
        (target / "data" / f"{view.slug}.js").write_text(script(view.slug, page))
    for name in PLAIN_FILES:
        (target / name).write_text(text(name))
    files = [(run.label, f"results-{plain(run.label)}.json") for run in runs]
    describe_report(target, files)
    for run, (_, name) in zip(runs, files, strict=True):
        shutil.copyfile(run.folder / RESULTS, target / name)
        if (run.folder / JUNIT).exists():
            shutil.copyfile(run.folder / JUNIT, target / f"junit-{plain(run.label)}.xml")
    shown, left = shown_and_left(sections(scenarios, runs))
    values = {
        "verdict": headline(scenarios),
        "failures": by_reason(failures(scenarios)),
        "runs": runs,
        "compared": compare_runs(runs, scenarios),
        "shown": shown,
        "left": left,
        "claims_shown": sum(len(section.rows) for section in shown),
        "claims_left": sum(len(section.rows) for section in left),
        "scenarios": len({view.name for view in scenarios}),
        "files": by_file(scenarios),
        "counts": counts,
        "words": ("proven", "contradicted", "error", "known", "skipped"),
    }
    (target / "index.html").write_text(render("index.html", **values))


def script(slug: str, page: Mapping[str, Any]) -> str:
    """Return a scenario's data as a script, all that a page opened from a file can load.

    The data is packed: deflate and base64 make it a quarter of its size.
    """
    data = json.dumps(page, separators=(",", ":")).encode()
    return f'show("{slug}","{base64.b64encode(zlib.compress(data, 9)).decode()}");\n'


def _page(view: ScenarioView, places: Iterable[ScenarioView]) -> dict[str, Any]:
    """Return the data of a scenario's page."""
    record, story = view.record, view.story()
    claims = load_claims()
    return {
        "name": view.name,
        "title": view.sentence,
        "run": view.run,
        "word": view.word,
        "topology": record.topology,
        "seconds": record.seconds,
        "reason": view.failure or view.reason,
        "stacks": view.stacks,
        "claims": [(name, claims[name].sentence) for name in record.claims if name in claims],
        "paste": printable(shlex.join(["pytest", record.nodeid, "--lab-kernel", view.kernel])),
        "runs": [(place.run, place.slug, place.word) for place in places],
        "lanes": story.lanes,
        "events": [event.as_row() for event in story.events],
        "machine": _machine(story.picture),
    }


def _machine(picture: Picture | None) -> dict[str, Any] | None:
    """Return a machine as it is when its scenario begins."""
    if picture is None:
        return None
    return {
        "title": picture.title,
        "viommu": picture.viommu,
        "own": picture.own,
        "functions": [
            (row.depth, row.bdf, row.role, row.what, row.driver, row.group, row.present)
            for row in picture.rows
        ],
    }
