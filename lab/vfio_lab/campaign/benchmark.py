"""Benchmarks of the lab: the time to start a guest, the time of a call, the memory of a clone."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfio_lab.campaign.runs import PYTEST
from vfio_lab.client.call import Refusal
from vfio_lab.client.user import User
from vfio_lab.errors import LabError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.guest import Guest
from vfio_lab.machine.template import GuestFactory
from vfio_lab.uapi import vfio as uapi
from vfio_lab.util import progress, resources

PROJECT = resources.root()
ONE_SCENARIO = (
    "scenarios/vf_token/test_match.py::test_vf_opens_with_the_token_its_pf_user_set[group]"
)
CLONES = 40
COLD_BOOTS = 5
CALLS = 400
PROCESSES = 5
TOPOLOGY = "igb"


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Args:
        key: its name, which ends in the unit.
        value: the measured value.
        bar: the largest accepted value on 2 cores without KVM; None if there is none.
        runs: the number of measurements.
    """

    key: str
    value: float
    bar: float | None
    runs: int

    @property
    def holds(self) -> bool:
        """Whether the value does not exceed the bar."""
        return self.bar is None or self.value <= self.bar


def measure(
    guest_factory: GuestFactory, *, clones: int = CLONES, quick: bool = False
) -> list[Figure]:
    """Take all figures in one run.

    Args:
        guest_factory: kernel, image and QEMU to measure with.
        clones: how many guests to clone, one after the other.
        quick: make a tenth of the other repetitions, for a first look.
    """
    share = 10 if quick else 1
    figures = [
        *_clones(guest_factory, clones),
        _cold_boots(guest_factory, max(1, COLD_BOOTS // share)),
        *_calls_and_weight(guest_factory, CALLS // share),
        _one_scenario(max(1, PROCESSES // share)),
    ]
    return [*figures, *_virtme(guest_factory, figures, max(1, PROCESSES // share))]


@contextmanager
def _guests(guest_factory: GuestFactory) -> Iterator[Callable[[bool], Guest]]:
    """Yield a function that starts a guest, cold or cloned, in a scratch folder."""
    topology = find_topology(TOPOLOGY)
    specs = {cold: guest_factory.boot_spec(topology, cold=cold) for cold in (False, True)}
    names = (f"bench-{number}" for number in itertools.count())
    with tempfile.TemporaryDirectory(prefix="vfio-lab-bench-") as scratch:

        def start(boots: bool) -> Guest:
            name = next(names)
            return Guest.start(name, specs[boots], Path(scratch) / name)

        yield start


def first_ioctl(guest: Guest) -> User:
    """Start a user, make one ioctl and return the user."""
    user = guest.user("bench")
    fd = user.open_path("/dev/vfio/vfio")
    user.ioctl(fd, uapi.VFIO_GET_API_VERSION, name="VFIO_GET_API_VERSION")
    return user


def _clones(guest_factory: GuestFactory, count: int) -> list[Figure]:
    times = []
    with _guests(guest_factory) as start, progress.task("Cloning", count) as task:
        for number in range(count):
            began = time.monotonic()
            guest = start(False)
            try:
                first_ioctl(guest)
                times.append(time.monotonic() - began)
            finally:
                guest.close()
            task.update(number + 1)
    times.sort()
    late = times[min(len(times) - 1, round(0.95 * len(times)))]
    return [
        Figure("clone_p50_s", statistics.median(times), 0.25, count),
        Figure("clone_p95_s", late, 0.45, count),
    ]


def _cold_boots(guest_factory: GuestFactory, count: int) -> Figure:
    times = []
    with _guests(guest_factory) as start, progress.task("Booting from power-on", count) as task:
        for number in range(count):
            began = time.monotonic()
            start(True).close()
            times.append(time.monotonic() - began)
            task.update(number + 1)
    return Figure("cold_boot_s", statistics.median(times), 3.5, count)


def _calls_and_weight(guest_factory: GuestFactory, count: int) -> list[Figure]:
    with _guests(guest_factory) as start:
        guest = start(False)
        try:
            user = first_ioctl(guest)
            fd = user.open_path("/dev/vfio/vfio")
            times = []
            for _ in range(count):
                began = time.monotonic()
                user.ioctl(fd, uapi.VFIO_GET_API_VERSION, name="VFIO_GET_API_VERSION")
                times.append(time.monotonic() - began)
            _token_scenario(guest)
            weight = private_bytes(guest.qemu.process.pid) / 1e6
        finally:
            guest.close()
    return [
        Figure("call_p50_ms", statistics.median(times) * 1000, 5, count),
        Figure("private_mb_per_guest", weight, 200, 1),
    ]


def _token_scenario(guest: Guest) -> None:
    """Set a VF token, then present a wrong and the right one, as scenarios do."""
    pf = guest.function("pf0").bind_with_sriov()
    (vf,) = pf.enable_vfs(1)
    token = uuid.uuid4()
    guest.user("pf_user").open(pf, token)
    vf_user = guest.user("vf_user")
    with contextlib.suppress(Refusal):
        vf_user.open(vf)
    vf_user.open(vf, token)


def private_bytes(pid: int) -> int:
    """Return how many bytes of memory a process shares with no other.

    Source: Documentation/filesystems/proc.rst, smaps_rollup.
    """
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty"):
            total += int(rest.split()[0]) * 1024
    return total


def _one_scenario(count: int) -> Figure:
    with tempfile.TemporaryDirectory(prefix="vfio-lab-bench-") as evidence:
        command = [*PYTEST, "-q", "--lab-artifacts", evidence, ONE_SCENARIO]
        return Figure("one_scenario_s", _whole_process(command, count, "1 passed"), 3, count)


def _virtme(guest_factory: GuestFactory, figures: list[Figure], count: int) -> list[Figure]:
    """Time virtme-ng on the same kernel, if it is installed, and its ratio to a cold boot."""
    vng = shutil.which("vng")
    if vng is None:
        return []
    what = ["--run", str(guest_factory.kernel.bzimage), "--disable-kvm", "--cpus", "1", "--verbose"]
    theirs = _whole_process([vng, *what, "--exec", "uname -r"], count, guest_factory.kernel.release)
    ours = next(figure.value for figure in figures if figure.key == "cold_boot_s")
    return [
        Figure("virtme_ng_s", theirs, None, count),
        Figure("cold_boot_vs_virtme_ng_ratio", ours / theirs, None, count),
    ]


def _whole_process(command: list[str], count: int, proof: str) -> float:
    """Return the median seconds of a command whose output must contain `proof`."""
    times = []
    with progress.task(f"Timing {Path(command[0]).name}", count) as task:
        for number in range(count + 1):  # the first run is a warm-up
            began = time.monotonic()
            done = subprocess.run(
                command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            times.append(time.monotonic() - began)
            if proof not in (said := (done.stdout + done.stderr).decode(errors="replace")):
                raise LabError(f"no {proof!r} from {' '.join(command)}", tail=said)
            task.update(number)
    return statistics.median(times[1:])
