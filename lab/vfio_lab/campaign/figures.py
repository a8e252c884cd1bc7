"""Figures of the lab's own performance: their bars, the machine, and the trend over commits."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vfio_lab import __version__
from vfio_lab.errors import LabError, UsageError
from vfio_lab.kernels import gittree
from vfio_lab.util import host, resources

HISTORY = "bench.jsonl"  # in the cache, so that it survives a checkout
CPU_MODEL = re.compile(r"^model name\s*: (.+)$", re.MULTILINE)
IDLE = 0.5  # load for each core
MANY = 1000
CATALOGUE = "--catalogue"
AGAINST = "--against CHECKOUT"
SHOWN_RUNS = 4  # which fit on 80 columns


@dataclass(frozen=True)
class Limit:
    """What is accepted of a figure.

    Args:
        value: the limit.
        least: whether the limit is the smallest accepted value; if not, the largest.
        by: what measures it, if `vfio-lab bench` without options does not.
    """

    value: float
    least: bool = False
    by: str = ""

    def __str__(self) -> str:
        """Return `at most 0.7`."""
        return f"at {'least' if self.least else 'most'} {self.value:g}"

    def holds(self, value: float) -> bool:
        """Return whether a value is accepted."""
        return value >= self.value if self.least else value <= self.value


# On 2 cores without KVM; ratios hold everywhere.
BARS = {
    "clone_p50_s": Limit(0.25),
    "clone_p95_s": Limit(0.45),
    "virtme_ng_per_clone_ratio": Limit(20, least=True),
    "cold_boot_s": Limit(3.5),
    "cold_boot_per_virtme_ng_ratio": Limit(0.7),
    "call_p50_ms": Limit(5),
    "private_mb_per_guest": Limit(70),
    "one_scenario_s": Limit(3),
    "catalogue_cpu_ratio": Limit(0.5, by=f"{CATALOGUE} {AGAINST}"),
    "clone_on_kvm_ratio": Limit(0.6, by="make kvm"),
}


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Args:
        key: its name, which ends in the unit.
        value: the measured value.
        runs: the number of measurements.
        note: what else there is to say.
    """

    key: str
    value: float
    runs: int = 1
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether its bar accepts the value, if there is one."""
        bar = BARS.get(self.key)
        return bar is None or bar.holds(self.value)


@dataclass(frozen=True)
class Measured:
    """The figures of a run, and where they were measured.

    Args:
        figures: the figures.
        machine: cores, memory and model of the processor.
        software: accelerator, QEMU and kernel.
        load: of the machine, before and after.
        commit: of the lab, or its version.
        when: date and time.
    """

    figures: tuple[Figure, ...]
    machine: str
    software: str
    load: tuple[float, float]
    commit: str
    when: str = field(default_factory=lambda: f"{datetime.datetime.now():%Y-%m-%d %H:%M}")

    @property
    def idle(self) -> bool:
        """Whether little else ran when it began."""
        return self.load[0] <= IDLE * host.cores()

    def __str__(self) -> str:
        """Return where it was measured, in a sentence."""
        before, after = self.load
        busy = "" if self.idle else "; other work ran: times are too long, ratios hold better"
        return (
            f"{self.machine}; {self.software}; commit {self.commit}, {self.when};"
            f" load {before:.1f} before, {after:.1f} after{busy}"
        )

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return each figure and each bar: name, value, bar, whether it holds, of how many."""
        values = {figure.key: figure for figure in self.figures}
        return [
            _row(key, values.get(key), BARS.get(key)) for key in dict.fromkeys([*BARS, *values])
        ]


def _row(key: str, figure: Figure | None, bar: Limit | None) -> tuple[str, str, str, str, str]:
    words = "" if bar is None else str(bar)
    if figure is None:
        how = bar.by if bar and bar.by else "with virtme-ng"
        return key, "not measured", words, "", how
    verdict = "" if bar is None else "held" if figure.holds else "missed"
    return key, _digits(figure.value), words, verdict, figure.note or f"{figure.runs}"


def _digits(value: float) -> str:
    """Return a value with three digits, or all of them before the point."""
    return f"{value:.0f}" if value >= MANY else f"{value:.3g}"


def machine_name() -> str:
    """Return cores, memory and model of this machine's processor."""
    found = CPU_MODEL.search(Path("/proc/cpuinfo").read_text())
    model = found[1] if found else platform.machine()
    return f"{host.cores()} cores, {host.megabytes(host.memory_bytes()[0])}, {model}"


def machine_load() -> float:
    """Return the machine's load of the last minute."""
    return os.getloadavg()[0]


def own_commit() -> str:
    """Return the lab's commit, marked if there are changes; its version if it is installed."""
    root = resources.root()
    try:
        commit = gittree.git(root, "rev-parse", "--short", "HEAD").strip()
        changed = gittree.git(root, "status", "--porcelain", "--untracked-files=no").strip()
    except LabError:
        return __version__
    return f"{commit}+" if changed else commit


def markdown(measured: Measured) -> str:
    """Return a table for the documentation, below the place where it was measured."""
    head = ("figure", "measured", "bar", "", "of")
    lines = [head, ("---",) * len(head), *measured.rows()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{measured}.\n\n{table}"


def append_measured(path: Path, measured: Measured) -> None:
    """Add a run to the history, a line of JSON."""
    with path.open("a") as file:
        file.write(f"{json.dumps(asdict(measured))}\n")


def read_measured(path: Path) -> list[Measured]:
    """Return the runs of the history.

    Raises:
        UsageError: it has a line that is none.
    """
    try:
        lines = path.read_text().splitlines() if path.exists() else []
        return [_measured(json.loads(line)) for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"cannot read the history {path}", seen=str(error), hint="delete the line or the file"
        ) from None


def _measured(record: dict[str, Any]) -> Measured:
    figures = tuple(Figure(**one) for one in record["figures"])
    before, after = record["load"]
    return Measured(**{**record, "figures": figures, "load": (before, after)})


def trend(history: Iterable[Measured], machine: str) -> tuple[list[str], list[Sequence[str]]]:
    """Return the latest runs on a machine: names of columns, one for each run, and the rows.

    Args:
        history: all runs.
        machine: the name of the machine.
    """
    own = [one for one in history if one.machine == machine][-SHOWN_RUNS:]
    keys = list(dict.fromkeys(figure.key for one in own for figure in one.figures))
    runs = [(one.when, f"{one.load[0]:.1f}", *_values(one, keys)) for one in own]
    rows = zip(("when", "load", *keys), *runs, strict=True)
    return ["commit", *(one.commit for one in own)], list(rows)


def _values(measured: Measured, keys: Iterable[str]) -> list[str]:
    values: Mapping[str, float] = {figure.key: figure.value for figure in measured.figures}
    return [_digits(values[key]) if key in values else "" for key in keys]
