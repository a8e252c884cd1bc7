"""A patch series tried: the same scenarios on a kernel, without it and with it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vfio_lab.campaign import behaviour, compare, confirm, runs
from vfio_lab.campaign.behaviour import Comparison
from vfio_lab.campaign.compare import Difference
from vfio_lab.campaign.reach import load_reach
from vfio_lab.campaign.report_log import OnEnd
from vfio_lab.campaign.results import Results
from vfio_lab.campaign.runs import Choice
from vfio_lab.campaign.selection import ReachSelection, select_scenarios
from vfio_lab.errors import BuildError
from vfio_lab.kernels import trial
from vfio_lab.kernels.base import Base
from vfio_lab.kernels.series import Patch
from vfio_lab.util.cache import Cache

BEFORE, AFTER = "before", "after"
MAILBOX, FRAGMENT = "series.mbox", "fragment.config"


@dataclass(frozen=True)
class SeriesTrial:
    """What came of a series.

    Args:
        base: name of what the series was applied to.
        before: the results without the series.
        after: the results with the series.
        compared: how the behaviour differs.
        where: folder with the evidence, in `before/` and `after/`.
    """

    base: str
    before: Results
    after: Results
    compared: Comparison
    where: Path

    @property
    def rows(self) -> list[Difference]:
        """The scenarios, before and after."""
        return compare.rows([self.before, self.after])


def choose_scenarios(
    base: Base, patches: Sequence[Patch], choice: Choice
) -> tuple[Choice, ReachSelection]:
    """Return the scenarios of a choice that a series can reach, and why.

    Args:
        base: what the patches are applied to.
        patches: the series, in order.
        choice: the choice of all scenarios.

    Raises:
        BuildError: a patch does not apply, or no scenario can reach the series.
    """
    changes = trial.changed_files(base, patches, Cache.default().open())
    found = select_scenarios(load_reach(), changes, runs.chosen_scenarios(choice))
    if not found.scenarios:
        raise BuildError(
            "no scenario can reach the series",
            seen=", ".join(str(change.path) for change in changes),
            hint="--all runs all scenarios",
        )
    return replace(choice, paths=found.scenarios, single=True), found


def try_series(
    base: Base,
    patches: Sequence[Patch],
    choice: Choice,
    folder: Callable[[], Path],
    watch: Callable[[Results], OnEnd],
) -> SeriesTrial:
    """Run scenarios on a kernel without patches and with them.

    Args:
        base: what the patches are applied to.
        patches: the series, in order.
        choice: which scenarios.
        folder: makes the folder for the evidence, once the kernels are there.
        watch: gets the results before, and returns what is told of each scenario after.

    Raises:
        UsageError: no scenario was chosen.
        HostError: this host cannot build or run it.
        BuildError: a patch does not apply or compile, or nothing could be judged.
    """
    cache = Cache.default().open()
    pair = trial.ensure_pair(base, patches, cache)
    where = folder()
    kernels: dict[str, str | Path] = {
        BEFORE: pair.before.name if pair.before.lasting else pair.before.bzimage.parent,
        AFTER: pair.after.bzimage.parent,
    }
    before = runs.cached(pair.before, kernels[BEFORE], choice, where / BEFORE, cache)
    title = f"Running scenarios on kernel {pair.after.name}"
    after = runs.run_scenarios(kernels[AFTER], choice, where / AFTER, title, watch(before))
    if not after.scenarios:
        raise BuildError("no scenario could be judged", where=where)
    compared = confirm.compare_twice(before, after, kernels, choice.jobs, where)
    behaviour.write_comparisons([compared], where)
    before.write(where / BEFORE)
    command = try_command(base.option, choice, configured=bool(base.config))
    replace(after, command=command).write(where / AFTER)
    return SeriesTrial(base.name, before, after, compared, where)


def try_command(base: str, choice: Choice, *, configured: bool = False) -> str:
    """Return what to type to try a series again that is in a mailbox.

    Args:
        base: what `--on` calls the base.
        choice: which scenarios.
        configured: whether it was tried with a fragment of the configuration.
    """
    words = ["vfio-lab", "try", MAILBOX, "--on", base]
    words += ["--config", FRAGMENT] if configured else []
    words += [] if choice.expression is None else ["-k", choice.expression]
    everything = choice.paths == runs.all_scenarios()
    words += ["--all"] if everything and choice.expression is None else []
    named = () if choice.single or everything else choice.paths
    return shlex.join([*words, *named])
