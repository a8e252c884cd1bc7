"""The report as files: an index, a page for scenarios, and the data that the page loads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from vfio_lab.campaign.results import RESULTS, Results, read_results
from vfio_lab.errors import UsageError
from vfio_lab.hw.catalogue import topologies
from vfio_lab.machine.state import read_state as load_snapshot
from vfio_lab.report.pages import plain, render, text
from vfio_lab.report.picture import picture
from vfio_lab.report.view import (
    ScenarioView,
    counts,
    failures,
    headline,
    scenario_views,
    sections,
)
from vfio_lab.spec.claims import load_claims
from vfio_lab.util.cache import digest

PLAIN_FILES = ("scenario.html", "style.css", "app.js")
JUNIT = "junit.xml"
MARK = '<meta name="generator" content="vfio-lab">'
DIGITS = 12


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
        runs: the runs' folders; of two runs on one kernel the later overrides the earlier.
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


def _write(runs: Sequence[tuple[Results, Path]], target: Path) -> None:
    for folder in (target, target / "data", target / "pictures"):
        folder.mkdir(parents=True)
    scenarios = [view for results, run in runs for view in scenario_views(results, run)]
    for view in scenarios:
        content = json.dumps(_page(view, target), separators=(",", ":"))
        # U+2028 is allowed in JSON, but not in a script.
        script = content.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        (target / "data" / f"{view.slug}.js").write_text(f"show({script});\n")
    for name in PLAIN_FILES:
        (target / name).write_text(text(name))
    for results, run in runs:
        shutil.copyfile(run / RESULTS, target / f"results-{plain(results.kernel['name'])}.json")
        if (run / JUNIT).exists():
            shutil.copyfile(run / JUNIT, target / f"junit-{plain(results.kernel['name'])}.xml")
    values = {
        "verdict": headline(scenarios),
        "failures": failures(scenarios),
        "runs": [results for results, _ in runs],
        "sections": sections(scenarios, [results for results, _ in runs]),
        "counts": counts,
        "words": ("proven", "contradicted", "error", "known", "skipped"),
    }
    (target / "index.html").write_text(render("index.html", **values))


def _page(view: ScenarioView, target: Path) -> dict[str, object]:
    """Return the data of a scenario's page."""
    record = view.record
    claims = load_claims()
    return {
        "name": view.name,
        "title": view.sentence,
        "kernel": view.kernel,
        "word": view.word,
        "topology": record.topology,
        "seconds": record.seconds,
        "reason": view.failure or record.reason,
        "stacks": view.stacks,
        "claims": [(name, claims[name].sentence) for name in record.claims],
        "paste": f"pytest '{record.nodeid}' --lab-kernel {view.kernel}",
        "picture": _picture(view, target),
        "alt": f"topology {record.topology} at the end of the scenario",
        "timeline": view.timeline(),
    }


def _picture(view: ScenarioView, target: Path) -> str:
    """Draw the guest at the end of a scenario; equal pictures share a file. Return its path."""
    seen = load_snapshot(view.evidence / "snapshot.json") if view.evidence else None
    if seen is None or view.record.topology not in topologies():
        return ""
    drawn = picture(topologies()[view.record.topology], seen).svg()
    path = target / "pictures" / f"{digest(drawn)[:DIGITS]}.svg"
    path.write_text(drawn)
    return path.relative_to(target).as_posix()
