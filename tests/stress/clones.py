"""Clones, as many as fit into the time: none is lost, and nothing grows or stays."""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

from support.abandoned import abandoned

from stress import leftovers
from stress.table import Finding
from vfio_lab.errors import LabError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.guest import BootSpec, Guest
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util.cache import Cache

AT_A_TIME = 3
SETTLED_AFTER = 10
GROWN_KIB = 20_000
Report = tuple[list[float], list[str]]


def clones(seconds: float) -> Finding:
    """Clone guests side by side; half of them have VFs and an open device when they end."""
    factory = GuestFactory.open(Cache.default())
    spec = factory.boot_spec(find_topology("igb"))
    shm, began = abandoned(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="vfio-lab-stress-"))
    reports: Queue[Report] = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=_work, args=(spec, folder / str(one), seconds, reports))
        for one in range(AT_A_TIME)
    ]
    for worker in workers:
        worker.start()
    told = [reports.get() for _ in workers]
    for worker in workers:
        worker.join()
    took = time.monotonic() - began
    wrong = [each for _, some in told for each in some]
    wrong += [f"left running: {pid}" for pid in leftovers.qemus(folder)]
    wrong += [f"left in /dev/shm: {name}" for name in abandoned() - shm]
    shutil.rmtree(folder)
    times = sorted(each for some, _ in told for each in some)
    late = times[min(len(times) - 1, int(0.95 * len(times)))]
    did = (
        f"{len(times)} clones, {AT_A_TIME} at a time, {len(times) / took:.1f}/s; "
        f"p50 {statistics.median(times):.2f} s, p95 {late:.2f} s, worst {times[-1]:.2f} s"
    )
    return Finding("clones", took, did, tuple(wrong))


def _work(spec: BootSpec, folder: Path, seconds: float, reports: Queue[Report]) -> None:
    until = time.monotonic() + seconds
    times: list[float] = []
    wrong: list[str] = []
    before = (0, 0)
    number = 0
    while time.monotonic() < until or number <= SETTLED_AFTER:
        if number == SETTLED_AFTER:
            before = leftovers.descriptors(), leftovers.memory_kib()
        began = time.monotonic()
        try:
            _one(spec, folder / str(number), busy=number % 2 == 1, times=times, began=began)
        except LabError as error:
            wrong.append(f"lost: {error.what}: {error.seen}")
        shutil.rmtree(folder / str(number), ignore_errors=True)
        number += 1
    if leftovers.descriptors() > before[0]:
        wrong.append(f"descriptors grew from {before[0]} to {leftovers.descriptors()}")
    if leftovers.memory_kib() > before[1] + GROWN_KIB:
        wrong.append(f"memory grew from {before[1]} to {leftovers.memory_kib()} KiB")
    reports.put((times, wrong))


def _one(spec: BootSpec, folder: Path, *, busy: bool, times: list[float], began: float) -> None:
    guest = Guest.start(f"clone-{folder.name}", spec, folder)
    try:
        guest.root.read_file("/proc/sys/kernel/tainted")
        times.append(time.monotonic() - began)
        if busy:
            pf = guest.function("pf0").bind_with_sriov()
            pf.enable_vfs(2)
            guest.user("holder").open(pf)
    finally:
        guest.close()
