"""The report as files: an index, a page for scenarios, and the data that it loads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from vfio_lab.campaign.results import RESULTS, Results, read_results
from vfio_lab.errors import UsageError
from vfio_lab.hw.topology import topologies
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
    """Refuse to write a report over anything but a report.

    Raises:
        UsageError: the folder holds something else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    index = target / "index.html"
    if not (index.is_file() and MARK in index.read_text(errors="replace")):
        raise UsageError(
            f"{target} is neither empty nor a report",
            seen="other files",
            hint="name a folder of its own for it",
        )


def write(runs: Sequence[Path], target: Path) -> Path:
    """Write the report of some runs, whole or not at all; return its first page.

    Args:
        runs: their folders; of two runs on one kernel the later speaks for what both have run.
        target: a folder that does not exist yet, is empty or holds an older report.

    Raises:
        UsageError: a folder holds no results, or the target something else.
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
    scenarios = [one for results, run in runs for one in scenario_views(results, run)]
    for one in scenarios:
        content = json.dumps(_page(one, target), separators=(",", ":"))
        # A line separator may stand in JSON but not in a script.
        script = content.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        (target / "data" / f"{one.slug}.js").write_text(f"show({script});\n")
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


def _page(one: ScenarioView, target: Path) -> dict[str, object]:
    """Return what the page of a scenario shows."""
    record = one.record
    claims = load_claims()
    return {
        "name": one.name,
        "title": one.sentence,
        "kernel": one.kernel,
        "word": one.word,
        "topology": record.topology,
        "seconds": record.seconds,
        "reason": one.failure or record.reason,
        "stacks": one.stacks,
        "claims": [(name, claims[name].sentence) for name in record.claims],
        "paste": f"pytest '{record.nodeid}' --lab-kernel {one.kernel}",
        "picture": _picture(one, target),
        "alt": f"topology {record.topology} at the end of the scenario",
        "timeline": one.timeline(),
    }


def _picture(one: ScenarioView, target: Path) -> str:
    """Draw the guest at the end of a scenario, once for all that look alike; return its path."""
    seen = load_snapshot(one.evidence / "snapshot.json") if one.evidence else None
    if seen is None or one.record.topology not in topologies():
        return ""
    drawn = picture(topologies()[one.record.topology], seen).svg()
    path = target / "pictures" / f"{digest(drawn)[:DIGITS]}.svg"
    path.write_text(drawn)
    return path.relative_to(target).as_posix()
