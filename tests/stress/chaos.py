"""Chaos, by seed: whatever is killed, stopped, filled or damaged, nothing wrong is said."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import time
from pathlib import Path

from support.abandoned import abandoned
from support.small_disk import mounted

from stress import deeds, leftovers, runs
from stress.table import Finding
from vfio_lab.image import rootfs
from vfio_lab.kernels import ksource, packaged
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util.cache import Cache
from vfio_lab.util.cache_use import hold

SMALL_KINDS = ("accelerator", "agent", "keys")
PAUSES_S = (0.5, 4.0)
Counts = dict[str, int]


def chaos(seconds: float, seed: int) -> Finding:
    """Run scenarios over and over while things happen to them."""
    folder, began = Path(tempfile.mkdtemp(prefix="vfio-lab-stress-")), time.monotonic()
    cache = _own_cache(folder)
    env = {"XDG_CACHE_HOME": str(cache.parent), **deeds.own_clock(folder)}
    shm, dice = abandoned(), random.Random(seed)  # noqa: S311 - chaos, not a secret
    runs.start(folder / "idle", *runs.SAMPLE, "-n", "2", env=env).wait()
    right = runs.records(folder / "idle")
    wrong: list[str] = []
    counts: Counts = {}
    rounds = judged = unjudged = 0
    while rounds == 0 or time.monotonic() - began < seconds:
        where = folder / f"round-{rounds}"
        found = _round(where, cache, dice, counts, env)
        wrong += runs.differing(right, found)
        if not runs.without_results(where.with_name(f"{where.name}.log")):
            wrong += runs.unnamed(right, found)
        judged, unjudged = judged + len(found), unjudged + runs.unjudged(found)
        rounds += 1
    wrong += _beside(folder, right)
    runs.start(folder / "after", *runs.SAMPLE, "-n", "2", env=env).wait()
    after = runs.records(folder / "after")
    wrong += [f"not green afterwards: {line}" for line in runs.differing(right, after)]
    wrong += [] if runs.unjudged(after) == 0 and after else ["not green afterwards"]
    wrong += [f"left running: {pid}" for pid in leftovers.qemus(folder)]
    wrong += [f"left in /dev/shm: {name}" for name in abandoned() - shm]
    counted = ", ".join(f"{name} {times}" for name, times in sorted(counts.items()))
    did = f"seed {seed}: {rounds} runs, {judged} verdicts, {unjudged} not judged; {counted}"
    return Finding("chaos", time.monotonic() - began, did, tuple(wrong))


def _round(
    where: Path, cache: Path, dice: random.Random, counts: Counts, env: dict[str, str]
) -> runs.Records:
    disk_folder = where.parent / f"{where.name}.disk"
    disk_folder.mkdir()
    with mounted("size=64m", disk_folder) as disk:
        process = runs.start(disk.path / "runs", *runs.SAMPLE, "-n", "2", env=env, log=where)
        scene = deeds.Scene(process, cache, disk, dice, counts, env)
        while process.poll() is None:
            time.sleep(dice.uniform(*PAUSES_S))
            deed = dice.choice(deeds.DEEDS)
            counts[deed.__name__] = counts.get(deed.__name__, 0) + 1
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                deed(scene)
        for other in scene.others:
            other.wait()
        for update in scene.updates:
            update.join()
        return runs.records(disk.path / "runs")


def _beside(folder: Path, right: runs.Records) -> list[str]:
    """Return what the runs beside a run got wrong."""
    kept = folder.glob("beside-*/")
    return [line for where in kept for line in runs.differing(right, runs.records(where))]


def _own_cache(folder: Path) -> Path:
    """Return a copy of what the cache has for the default kernel: the user's is not damaged."""
    factory = GuestFactory.open(Cache.default())
    root, cache = factory.cache.root, folder / "cache" / "vfio-lab"
    disks = factory.disks(rootfs.BASE)
    kernels = packaged.kernel_catalogue()
    source = kernels.spec(kernels.default).source.name
    entries = [factory.kernel.bzimage.parent, disks.image.path.parent, disks.payload.parent]
    entries += [root / kind for kind in SMALL_KINDS if (root / kind).exists()]
    for entry in entries:
        shutil.copytree(entry, cache / entry.relative_to(root), symlinks=True)
        hold(cache / entry.relative_to(root))  # as a run does: a pruned kernel is compiled again
    for one in (root / ksource.KIND).glob(f"{source}*"):
        copy = shutil.copytree if one.is_dir() else shutil.copy2
        (cache / ksource.KIND).mkdir(exist_ok=True)
        copy(one, cache / ksource.KIND / one.name)
    return cache
