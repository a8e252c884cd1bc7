"""Results on several kernels, from the records of earlier runs or from new runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vfio_lab.campaign import results, runs
from vfio_lab.campaign.results import Results
from vfio_lab.kernels import selector
from vfio_lab.util.cache import Cache


def results_on(
    kernels: Sequence[str], choice: runs.Choice, where: Path, cache: Cache
) -> list[Results]:
    """Return the results of scenarios on some kernels, one for each kernel.

    Args:
        kernels: kernels as for --lab-kernel, or folders of runs whose results are read.
        choice: the scenarios to run on the kernels that are no folders.
        where: folder for the evidence.
        cache: where kernels and verdicts are kept.
    """
    recorded = {name for name in kernels if (Path(name) / results.RESULTS).is_file()}
    made = {name: selector.ensure_kernel(name, cache) for name in kernels if name not in recorded}
    found = []
    for number, name in enumerate(kernels):
        if name in recorded:
            found.append(results.read_results(Path(name)))
            continue
        place = name if made[name].lasting else made[name].bzimage.parent
        found.append(runs.cached(made[name], place, choice, where / str(number), cache))
    return merged(found)


def merged(found: Sequence[Results]) -> list[Results]:
    """Merge runs on the same kernel; a scenario's later verdict replaces an earlier one."""
    by_kernel: dict[str, Results] = {}
    for run in sorted(found, key=lambda each: each.started):
        key = run.kernel["digest"]
        before = by_kernel[key].scenarios if key in by_kernel else ()
        scenarios = {one.nodeid: one for one in (*before, *run.scenarios)}
        by_kernel[key] = replace(run, scenarios=tuple(scenarios.values()))
    order = dict.fromkeys(run.kernel["digest"] for run in found)
    return [by_kernel[key] for key in order]
