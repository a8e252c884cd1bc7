"""Follows a run of scenarios by the records of pytest-reportlog."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vfio_lab.campaign.results import Outcome, phase_outcome, worst
from vfio_lab.util.progress import Task

PHASES = {"setup": 1 / 3, "call": 2 / 3, "teardown": 1.0}
END = b"\n\n"  # the first newline ends the line that a killed writer left incomplete
OnEnd = Callable[[str, Outcome], None]


@contextlib.contextmanager
def follow_reports(on_report: Callable[[dict[str, Any]], None]) -> Iterator[Path]:
    """Yield a path for --report-log; a thread calls `on_report` with each record written to it."""
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as folder:
        pipe = Path(folder, "reports")
        os.mkfifo(pipe, 0o600)
        fd = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)  # so that the open does not wait for a writer
        reader = threading.Thread(target=_read_reports, args=(fd, on_report), daemon=True)
        reader.start()
        try:
            yield pipe
        finally:
            os.write(fd, END)
            reader.join()


def _read_reports(fd: int, on_report: Callable[[dict[str, Any]], None]) -> None:
    with os.fdopen(fd, "rb") as lines:
        while (line := lines.readline()) != b"\n":
            with contextlib.suppress(ValueError):
                on_report(json.loads(line))


class RunProgress:
    """Shows the progress of a run: each scenario, and each of its phases, counts alike.

    Args:
        task: shows the progress.
        total: how many scenarios there are.
        on_end: called with the node ID and the outcome of each scenario that ends.
    """

    def __init__(self, task: Task, total: int, on_end: OnEnd) -> None:
        self._task = task
        self._total = total
        self._on_end = on_end
        self._outcomes: dict[str, Outcome] = {}
        self._phases: dict[str, float] = {}

    def __call__(self, record: dict[str, Any]) -> None:
        """Take one record."""
        if record.get("$report_type") != "TestReport":
            return
        nodeid, when = record["nodeid"], record["when"]
        outcome = phase_outcome(when, record["outcome"], xfailed="wasxfail" in record)
        before = outcome if when == "setup" else self._outcomes.get(nodeid, outcome)
        self._outcomes[nodeid] = worst([before, outcome]) or outcome
        self._phases[nodeid] = PHASES.get(when, 1.0)  # the scenario of a lost worker has ended
        if self._phases[nodeid] == 1.0:
            self._on_end(nodeid, self._outcomes[nodeid])
        ended = sum(phase == 1.0 for phase in self._phases.values())
        note = f"{ended} of {self._total}, {nodeid.rpartition('::')[2]}: {when} done"
        self._task.update(sum(self._phases.values()), self._total, note)
