"""What whole runs cost: the catalogue in CPU seconds, and the parts of `make check` in time."""

from __future__ import annotations

import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.campaign.figures import Figure
from vfio_lab.errors import LabError, UsageError
from vfio_lab.util import progress, resources

PROJECT = resources.root()
SCENARIOS = "scenarios"
NODE = re.compile(r"^scenarios/\S+\.py::.+$", re.MULTILINE)
PASSED = re.compile(r"(\d+) passed")
FREEZING = re.compile(r"Freezing template \S+ on")
CONTINUED = "\\\n"


@dataclass
class Cost:
    """What a process and all that it started took.

    Args:
        cpu_s: seconds on a core.
        wall_s: seconds.
        passed: how many scenarios passed.
        frozen: how many templates were made on the way.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    passed: int = 0
    frozen: int = 0

    @property
    def note(self) -> str:
        """What a reader must know of it."""
        frozen = f", {self.frozen} templates made on the way" if self.frozen else ""
        return f"{self.passed} scenarios passed, {self.wall_s:.0f} s{frozen}"


@contextmanager
def _counted(cost: Cost) -> Iterator[None]:
    """Add what is run meanwhile to a cost.

    Source: getrusage(2), RUSAGE_CHILDREN: children that ended, and theirs.
    """
    before, began = _children_s(), time.monotonic()
    yield
    cost.cpu_s += _children_s() - before
    cost.wall_s += time.monotonic() - began


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_catalogue(
    jobs: int, kernel: str, other: Path | None = None, chosen: Sequence[str] = ()
) -> list[Figure]:
    """Run the catalogue; with another checkout, both, area by area in turn.

    Of two checkouts the scenarios are run that both have.

    Args:
        jobs: guests at a time.
        kernel: the kernel's name.
        other: the other checkout, set up by its `bootstrap`.
        chosen: files, folders or node IDs of scenarios; all by default.

    Raises:
        UsageError: the other folder is no checkout that is set up.
        LabError: a run did not end.
    """
    checkouts = [PROJECT] if other is None else [PROJECT, other.resolve()]
    for checkout in checkouts:
        if not _pytest(checkout).exists():
            raise UsageError(
                f"cannot measure the catalogue of {checkout}",
                seen=f"no {_pytest(checkout)}",
                hint="a checkout of the lab, after ./bootstrap",
            )
    areas = _areas(checkouts, kernel, chosen or (SCENARIOS,))
    costs = {checkout: Cost() for checkout in checkouts}
    with progress.task("Running the catalogue", len(areas)) as task:
        for number, (area, nodes) in enumerate(areas.items()):
            task.update(number, note=area)
            # Who is first changes, so that neither finds the machine warmer.
            for checkout in checkouts if number % 2 else reversed(checkouts):
                _run_area(checkout, nodes, kernel, jobs, costs[checkout])
    what = "chosen" if chosen else "catalogue"  # the bar is that of the whole
    own = costs[PROJECT]
    figures = [Figure(f"{what}_cpu_s", own.cpu_s, note=own.note)]
    if other is not None:
        theirs = costs[other.resolve()]
        figures += [
            Figure(f"{what}_cpu_before_s", theirs.cpu_s, note=theirs.note),
            Figure(f"{what}_cpu_ratio", own.cpu_s / theirs.cpu_s),
        ]
    return figures


def _pytest(checkout: Path) -> Path:
    return checkout / ".venv/bin/pytest"


def _areas(checkouts: Sequence[Path], kernel: str, chosen: Sequence[str]) -> dict[str, list[str]]:
    """Return the node IDs of what was chosen that all checkouts have, by area."""
    known = []
    for checkout in checkouts:
        words = [str(_pytest(checkout)), *chosen, "--collect-only", "-q", "--lab-kernel", kernel]
        printed = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=False)
        known.append(dict.fromkeys(NODE.findall(printed.stdout)))
        if not known[-1]:
            raise LabError(f"{checkout} has no scenarios", tail=printed.stdout + printed.stderr)
    areas: dict[str, list[str]] = {}
    for node in known[0]:
        if all(node in each for each in known):
            areas.setdefault(node.split("/")[1], []).append(node)
    return areas


def _run_area(checkout: Path, nodes: Sequence[str], kernel: str, jobs: int, cost: Cost) -> None:
    """Run scenarios of a checkout and add what they took."""
    with tempfile.TemporaryDirectory(prefix="vfio-lab-bench-") as folder:
        listed = Path(folder, "nodes")
        listed.write_text("\n".join(nodes))
        options = ["-n", str(jobs), "-q", "--lab-kernel", kernel, "--lab-artifacts", folder]
        command = [str(_pytest(checkout)), *options, f"@{listed}"]
        with _counted(cost):
            done = subprocess.run(
                command,
                cwd=checkout,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
    said = done.stdout + done.stderr
    if done.returncode not in (0, 1):
        raise LabError(f"the scenarios of {checkout} did not end", tail=said)
    passed = PASSED.search(said)
    cost.passed += int(passed[1]) if passed else 0
    cost.frozen += len(set(FREEZING.findall(said)))


def measure_check() -> list[Figure]:
    """Time each command of `make check`.

    Raises:
        UsageError: the lab is no checkout.
    """
    if not (PROJECT / "Makefile").exists():
        raise UsageError("cannot time `make check`", seen=f"no Makefile in {PROJECT}")
    commands = check_commands()
    figures = []
    with progress.task("Running `make check`", len(commands)) as task:
        for number, command in enumerate(commands):
            task.update(number, note=part_name(command))
            cost = Cost()
            with _counted(cost):
                done = subprocess.run(
                    ["sh", "-c", command],  # noqa: S607 - as make does
                    cwd=PROJECT,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                )
            failed = f", exit code {done.returncode}" if done.returncode else ""
            note = f"{cost.cpu_s:.0f} s of CPU{failed}"
            figures.append(Figure(f"check_s: {part_name(command)}", cost.wall_s, note=note))
    return [*figures, Figure("check_s", sum(one.value for one in figures), len(figures))]


def check_commands() -> list[str]:
    """Return the commands of `make check`."""
    words = ["make", "--dry-run", "--no-print-directory", "check"]
    printed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return printed.replace(CONTINUED, " ").splitlines()


def part_name(command: str) -> str:
    """Return the first words of a command, which say what it is."""
    words = command.replace(".venv/bin/", "").split()
    return " ".join(words[:2])
