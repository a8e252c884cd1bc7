"""Chaos, by seed: whatever is killed, stopped, filled or damaged, nothing wrong is said."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.small_disk import SmallDisk, mounted

from stress import leftovers, runs
from stress.table import PROJECT, Finding
from vfio_lab.image import rootfs
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util.cache import Cache
from vfio_lab.util.host_time import family

SMALL_KINDS = ("accelerator", "agent", "keys")
PAUSES_S = (0.5, 4.0)
STOPPED_S = 3.0
COMMAND = "from vfio_lab.cli import main; main()"


@dataclass
class Scene:
    """What chaos acts upon.

    Args:
        process: the run.
        cache: the run's own.
        disk: what its evidence is on.
        dice: seeded.
        deeds: what was done, counted.
        others: runs beside this one.
    """

    process: subprocess.Popen[bytes]
    cache: Path
    disk: SmallDisk
    dice: random.Random
    deeds: dict[str, int]
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """What makes a process use the run's own cache."""
        return {"XDG_CACHE_HOME": str(self.cache.parent)}

    def command(self, *words: str) -> None:
        """Run a command of the lab beside the run."""
        subprocess.run(
            [sys.executable, "-c", COMMAND, *words],
            cwd=PROJECT,
            env={**os.environ, **self.env},
            capture_output=True,
            check=False,
        )

    def children(self, word: bytes) -> list[int]:
        """Return the run's processes whose command line begins with a word."""
        found = []
        for pid in family(self.process.pid):
            with contextlib.suppress(OSError):
                if word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    found.append(pid)
        return found


def kill_qemu(scene: Scene) -> None:
    """Kill a QEMU."""
    _signal(scene, scene.children(b"qemu-system"), signal.SIGKILL)


def stop_qemu(scene: Scene) -> None:
    """Stop a QEMU for a while."""
    pid = _signal(scene, scene.children(b"qemu-system"), signal.SIGSTOP)
    time.sleep(STOPPED_S)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def kill_worker(scene: Scene) -> None:
    """Kill a worker of xdist."""
    python = scene.children(b"python")
    _signal(scene, [pid for pid in python if pid != scene.process.pid], signal.SIGKILL)


def fill_disk(scene: Scene) -> None:
    """Fill the disk of the evidence, and empty it again."""
    scene.disk.fill()
    time.sleep(STOPPED_S)
    scene.disk.empty()


def damage_template(scene: Scene) -> None:
    """Cut a template's state short."""
    if states := list(scene.cache.glob("template/*/state")):
        path = scene.dice.choice(states)
        os.truncate(path, path.stat().st_size // 2)


def remove_template(scene: Scene) -> None:
    """Remove a template, as a user may."""
    if entries := list(scene.cache.glob("template/*/manifest.json")):
        shutil.rmtree(scene.dice.choice(entries).parent)


def look_at_cache(scene: Scene) -> None:
    """Have another command of the lab look at the cache."""
    scene.command("cache", "list")


def prune_cache(scene: Scene) -> None:
    """Delete from the cache what is not in use."""
    scene.command("cache", "prune", "--older", "0", "--over", "1M")


def run_beside(scene: Scene) -> None:
    """Start a second run of the same scenarios, one at a time."""
    if not any(other.poll() is None for other in scene.others):
        where = scene.cache.parents[1] / f"beside-{sum(scene.deeds.values())}"
        scene.others.append(runs.start(where, *runs.SAMPLE, env=scene.env))


DEEDS: tuple[Callable[[Scene], None], ...] = (
    kill_qemu,
    kill_qemu,
    stop_qemu,
    kill_worker,
    fill_disk,
    damage_template,
    remove_template,
    look_at_cache,
    prune_cache,
    run_beside,
)


def chaos(seconds: float, seed: int) -> Finding:
    """Run scenarios over and over while things happen to them."""
    folder, began = Path(tempfile.mkdtemp(prefix="vfio-lab-stress-")), time.monotonic()
    cache = _own_cache(folder)
    env = {"XDG_CACHE_HOME": str(cache.parent)}
    shm, dice = leftovers.in_memory(), random.Random(seed)  # noqa: S311 - chaos, not a secret
    runs.start(folder / "idle", *runs.SAMPLE, "-n", "2", env=env).wait()
    right = runs.records(folder / "idle")
    wrong: list[str] = []
    deeds: dict[str, int] = {}
    rounds = judged = unjudged = 0
    while rounds == 0 or time.monotonic() - began < seconds:
        found = _round(folder / f"round-{rounds}", cache, dice, deeds, env)
        wrong += [*runs.differing(right, found), *runs.unnamed(right, found)]
        judged, unjudged = judged + len(found), unjudged + runs.unjudged(found)
        rounds += 1
    wrong += _beside(folder, right)
    runs.start(folder / "after", *runs.SAMPLE, "-n", "2", env=env).wait()
    after = runs.records(folder / "after")
    wrong += [f"not green afterwards: {line}" for line in runs.differing(right, after)]
    wrong += [] if runs.unjudged(after) == 0 and after else ["not green afterwards"]
    wrong += [f"left running: {pid}" for pid in leftovers.qemus(folder)]
    wrong += [f"left in /dev/shm: {name}" for name in leftovers.in_memory() - shm]
    counted = ", ".join(f"{name} {times}" for name, times in sorted(deeds.items()))
    did = f"seed {seed}: {rounds} runs, {judged} verdicts, {unjudged} not judged; {counted}"
    return Finding("chaos", time.monotonic() - began, did, tuple(wrong))


def _round(
    where: Path, cache: Path, dice: random.Random, deeds: dict[str, int], env: dict[str, str]
) -> runs.Records:
    disk_folder = where.parent / f"{where.name}.disk"
    disk_folder.mkdir()
    with mounted("size=64m", disk_folder) as disk:
        process = runs.start(disk.path / "runs", *runs.SAMPLE, "-n", "2", env=env, log=where)
        scene = Scene(process, cache, disk, dice, deeds)
        while process.poll() is None:
            time.sleep(dice.uniform(*PAUSES_S))
            deed = dice.choice(DEEDS)
            deeds[deed.__name__] = deeds.get(deed.__name__, 0) + 1
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                deed(scene)
        for other in scene.others:
            other.wait()
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
    entries = [factory.kernel.bzimage.parent, disks.image.path.parent, disks.payload.parent]
    entries += [root / kind for kind in SMALL_KINDS if (root / kind).exists()]
    for entry in entries:
        shutil.copytree(entry, cache / entry.relative_to(root), symlinks=True)
    return cache


def _signal(scene: Scene, pids: list[int], number: int) -> int | None:
    if not pids:
        return None
    pid = scene.dice.choice(pids)
    os.kill(pid, number)
    return pid
