"""Runs of the scenarios, each in a pytest process of its own."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vfio_lab.campaign import behaviour, results
from vfio_lab.campaign.report_log import OnEnd, RunProgress, follow_reports
from vfio_lab.campaign.results import BAD, Results
from vfio_lab.errors import (
    BuildError,
    HostError,
    LabError,
    UsageError,
)
from vfio_lab.kernels import kselftests
from vfio_lab.kernels.packaged import IMAGES, Kernel
from vfio_lab.spec.scenarios import home
from vfio_lab.util import host, progress, resources
from vfio_lab.util.cache import Cache, digest, file_digest
from vfio_lab.util.extensions import load_extensions
from vfio_lab.util.process import pipeline

KIND = "verdicts"
KEPT = 32
GUESTS_A_CORE = 2
MOST_JOBS = 16
NOTHING_CHOSEN, NO_SUCH_SCENARIO, USAGE = 5, 4, 2
# -P keeps the working folder off sys.path: an installed lab's has modules such as `qemu`.
PYTEST = (sys.executable, "-P", "-m", "pytest")


def all_scenarios() -> tuple[str, ...]:
    """Return the folder of scenarios, relative to the project."""
    root, scenarios = home()
    return (scenarios.relative_to(root).as_posix(),)


@dataclass(frozen=True)
class Choice:
    """The scenarios to run, and how.

    Args:
        paths: files, folders or node IDs, relative to the project.
        expression: as for pytest -k.
        options: more arguments for pytest.
        jobs: guests at a time, at most.
        hosts: other hosts that take part, as for --lab-hosts; with any, this one does not.
        single: whether the paths are node IDs, to be run in this order.
    """

    paths: tuple[str, ...] = field(default_factory=all_scenarios)
    expression: str | None = None
    options: tuple[str, ...] = ()
    jobs: int = 2
    hosts: str | None = None
    single: bool = False

    @classmethod
    def asked(
        cls,
        scenarios: tuple[str, ...],
        expression: str | None,
        jobs: int | None,
        hosts: str | None = None,
    ) -> Choice:
        """Return the choice that a user asks for.

        Args:
            scenarios: node IDs or files, relative to the project; all scenarios if empty.
            expression: as for pytest -k.
            jobs: guests at a time, at most; by default as many as this host can run.
            hosts: other hosts that take part.
        """
        return cls(scenarios or all_scenarios(), expression, (), jobs or possible_jobs(), hosts)

    @property
    def words(self) -> list[str]:
        """The arguments for pytest."""
        words = [] if self.expression is None else ["-k", self.expression]
        return [*self.paths, *words, *self.options]

    def spread(self, count: int) -> list[str]:
        """Return the arguments for pytest that spread scenarios over guests and hosts.

        Args:
            count: how many scenarios there are.
        """
        if self.hosts is not None:
            return ["--lab-hosts", self.hosts]
        workers = min(self.jobs, count)
        in_order = ["--maxschedchunk=1"] if self.single else []
        return ["-n", str(workers), *in_order] if workers > 1 else []


def run_scenarios(
    kernel: str | Path,
    choice: Choice,
    where: Path,
    title: str,
    on_end: OnEnd = lambda _nodeid, _outcome: None,
) -> Results:
    """Run scenarios on a kernel, as many at a time as the choice allows.

    Args:
        kernel: a packaged kernel's name or a path, as for --lab-kernel.
        choice: the scenarios.
        where: folder for the evidence and the log.
        title: the name of the step, for the progress display.
        on_end: called with the node ID and the outcome of each scenario that ends.

    Raises:
        UsageError: the choice has no scenario.
        HostError: this host cannot run them.
        BuildError: nothing could be judged.
    """
    # Selftests of a kernel's own tree are scenarios of runs on that kernel.
    own = kselftests.programs(Path(kernel))
    count = len(
        choice.paths if choice.single else chosen_scenarios(choice, Path(kernel) if own else None)
    )
    spread = choice.spread(count)
    words = ["--lab-kernel", os.fspath(kernel), "--lab-artifacts", os.fspath(where), *choice.words]
    log = where / "pytest.log"
    with (
        progress.task(title, count) as task,
        follow_reports(RunProgress(task, count, on_end)) as reports,
    ):
        code = _pytest("run scenarios", [*words, *spread, "-v", f"--report-log={reports}"], log)
    found = sorted(where.glob(f"*/{results.RESULTS}"))
    # With --exitfirst, xdist's workers report an interruption.
    judged = code in (0, 1) or (code == USAGE and "-x" in choice.options)
    if judged and found:
        return results.read_results(found[-1].parent)
    raise _failure(code, log)


@functools.cache
def chosen_scenarios(choice: Choice, kernel: Path | None = None) -> tuple[str, ...]:
    """Return the node IDs of the scenarios in a choice.

    Args:
        choice: the choice.
        kernel: the folder of a kernel that brings scenarios.

    Raises:
        UsageError: the choice has no scenario.
        HostError: pytest cannot collect them.
    """
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as folder:
        listed, log = Path(folder, "chosen.json"), Path(folder, "pytest.log")
        words = [*choice.words, "--collect-only", "-q", f"--lab-list={listed}"]
        words += [] if kernel is None else ["--lab-kernel", os.fspath(kernel)]
        code = _pytest("collect scenarios", words, log)
        if code != 0:
            raise _failure(code, log)
        return tuple(json.loads(listed.read_text()))


def _pytest(what: str, words: Sequence[str], log: Path) -> int:
    command = [*PYTEST, *words]
    return pipeline(what, command, log=log, cwd=home()[0], accepted=range(256))


def cached(kernel: Kernel, name: str | Path, choice: Choice, where: Path, cache: Cache) -> Results:
    """Run scenarios on a kernel unless the same scenarios have passed on it before.

    Args:
        kernel: the kernel.
        name: its name for --lab-kernel.
        choice: the scenarios.
        where: folder for the evidence and the log.
        cache: where verdicts are kept.
    """
    beside = {"kernel": kernel.digest, "sources": sources()}
    key = digest({**beside, "words": choice.words})[:16]
    if (entry := cache.find(KIND, key)) is not None:
        return results.read_results(entry)
    every = cache.find(KIND, digest({**beside, "words": Choice().words})[:16])
    if every is not None and choice.single:
        kept = results.read_results(every)
        named = [one for one in kept.scenarios if _names(one.nodeid) & set(choice.paths)]
        if set(choice.paths) <= set().union(*(_names(one.nodeid) for one in named)):
            return replace(kept, scenarios=tuple(named))
    found = run_scenarios(name, choice, where, f"Running scenarios on kernel {kernel.name}")
    if not any(one.outcome in BAD for one in found.scenarios):
        with contextlib.suppress(HostError):  # a full disk: run them again next time
            cache.obtain(KIND, key, lambda scratch: _keep(found, scratch))
            cache.prune(KIND, KEPT)
    return found


def _names(nodeid: str) -> set[str]:
    """Return the node IDs that choose a scenario: with its parameters and without."""
    return {nodeid, nodeid.partition("[")[0]}


def sources() -> str:
    """Return a digest of all sources that a scenario's result depends on."""
    root, scenarios = home()
    plugin = importlib.util.find_spec("vfio_lab_pytest")
    beside = [IMAGES, scenarios, *(one.folder for one in load_extensions())]
    packages = [resources.PACKAGE, *map(Path, (plugin and plugin.submodule_search_locations) or ())]
    files = {root / "conftest.py", root / resources.CONFIGURATION}
    for folder in (*packages, *beside):
        files |= {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    return digest({str(path): file_digest(path) for path in sorted(files) if path.is_file()})


def possible_jobs(cores: int | None = None) -> int:
    """Return how many guests to run at a time: two a core, since guests sleep half of the time.

    Args:
        cores: of the host, by default of this one.
    """
    return min(GUESTS_A_CORE * (cores or host.cores()), MOST_JOBS)


def _keep(found: Results, scratch: Path) -> None:
    found.write(scratch)
    behaviour.keep_observed(found, scratch)


def _failure(code: int, log: Path) -> LabError:
    tail = log.read_text(errors="replace")
    if code in (NOTHING_CHOSEN, NO_SUCH_SCENARIO):
        return UsageError(
            "no scenario is chosen by that",
            seen="none collected",
            tail=tail,
            hint="see `pytest --collect-only -q`",
        )
    kind = HostError if code == USAGE else BuildError
    return kind("the scenarios could not be run", seen=f"exit code {code}", tail=tail, where=log)
