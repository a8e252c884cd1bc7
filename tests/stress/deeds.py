"""What chaos does to a run: kills, stops, fills, damages, and works beside it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.small_disk import SmallDisk

from stress import runs
from stress.table import PROJECT
from vfio_lab.util.host_time import family

STOPPED_S = 3.0
HOUR_S = 3600
COMMAND = "from vfio_lab.cli import main; main()"
CLOCK = "clock"
GCC = shutil.which("gcc") or "/usr/bin/gcc"
CHATTR = shutil.which("chattr") or "/usr/bin/chattr"
SOURCE = Path(__file__).with_name("clock.c")


def own_clock(folder: Path) -> dict[str, str]:
    """Return the environment of processes whose clock a file in a folder sets."""
    library, clock = folder / "clock.so", folder / CLOCK
    words = ("-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE))
    subprocess.run([GCC, *words], check=True)
    _set_clock(clock, 0)
    return {"LD_PRELOAD": str(library), "LAB_CLOCK": str(clock)}


@dataclass
class Scene:
    """What chaos acts upon.

    Args:
        process: the run.
        cache: the run's own.
        disk: what its evidence is on.
        dice: seeded.
        deeds: what was done, counted.
        env: of everything that uses the run's cache.
        others: runs beside this one.
        updates: of kernels, beside the run.
    """

    process: subprocess.Popen[bytes]
    cache: Path
    disk: SmallDisk
    dice: random.Random
    deeds: dict[str, int]
    env: dict[str, str]
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    updates: list[threading.Thread] = field(default_factory=list)

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


def lock_template(scene: Scene) -> None:
    """Make a template unchangeable for a while, for root too."""
    if entries := list(scene.cache.glob("template/*/manifest.json")):
        with _unchangeable(scene.dice.choice(entries).parent):
            time.sleep(STOPPED_S)


def set_clock(scene: Scene) -> None:
    """Set the clock of the run and of its guests an hour forward or back."""
    _set_clock(scene.cache.parents[1] / CLOCK, scene.dice.choice((-HOUR_S, 0, HOUR_S)))


def look_at_cache(scene: Scene) -> None:
    """Have another command of the lab look at the cache."""
    scene.command("cache", "list")


def prune_cache(scene: Scene) -> None:
    """Delete from the cache what is not in use."""
    scene.command("cache", "prune", "--older", "0", "--over", "1M")


def update_kernel(scene: Scene) -> None:
    """Pin the kernel in use anew; then take the old pin back, for nobody builds another here."""

    def update() -> None:
        before = {pin: pin.read_bytes() for pin in scene.cache.glob("source/*.json")}
        scene.command("kernel", "update", "--all")
        for pin, content in before.items():
            pin.write_bytes(content)

    if not any(other.is_alive() for other in scene.updates):
        scene.updates.append(threading.Thread(target=update))
        scene.updates[-1].start()


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
    lock_template,
    set_clock,
    look_at_cache,
    prune_cache,
    update_kernel,
    run_beside,
)


def _signal(scene: Scene, pids: list[int], number: int) -> int | None:
    if not pids:
        return None
    pid = scene.dice.choice(pids)
    os.kill(pid, number)
    return pid


def _set_clock(path: Path, seconds: int) -> None:
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(struct.pack("=q", seconds))


@contextlib.contextmanager
def _unchangeable(folder: Path) -> Iterator[None]:
    def change(word: str) -> None:
        subprocess.run([CHATTR, "-R", word, folder], capture_output=True, check=False)

    change("+i")
    try:
        yield
    finally:
        change("-i")
