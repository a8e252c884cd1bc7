"""Benchmarks of the lab: the time to start a guest, the time of a call, the memory of a clone."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vfio_lab.arch import X86_64
from vfio_lab.campaign import translated
from vfio_lab.campaign.figures import Figure
from vfio_lab.campaign.runs import PYTEST
from vfio_lab.client.call import Refusal
from vfio_lab.client.user import User
from vfio_lab.errors import LabError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.guest import Guest
from vfio_lab.machine.template import GuestFactory
from vfio_lab.uapi import vfio as uapi
from vfio_lab.util import host, progress, resources

PROJECT = resources.root()
ONE_SCENARIO = (
    "scenarios/vf_token/test_match.py::test_vf_opens_with_the_token_its_pf_user_set[group]"
)
CLONES = 40
ROUNDS = 5
CALLS = 400
LIVES = 5
PROCESSES = 5
TOPOLOGY = "igb"


@dataclass(frozen=True)
class Starts:
    """Seconds that starts took, measured in turn.

    Args:
        clones: from the start of a clone's QEMU to its first answer to an ioctl.
        cold: from power-on to the agent.
        virtme: of virtme-ng on the same kernel, the whole process; empty if it is not installed.
    """

    clones: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    virtme: list[float] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        """Return the figures, with the ratios to virtme-ng."""
        clones, count = sorted(self.clones), len(self.clones)
        middle, cold = statistics.median(clones), statistics.median(self.cold)
        late = clones[min(count - 1, round(0.95 * count))]
        found = [
            Figure("clone_p50_s", middle, count),
            Figure("clone_p95_s", late, count),
            Figure("cold_boot_s", cold, len(self.cold)),
        ]
        if self.virtme:
            theirs, runs = statistics.median(self.virtme), len(self.virtme)
            found += [
                Figure("virtme_ng_s", theirs, runs),
                Figure("virtme_ng_per_clone_ratio", theirs / middle, runs),
                Figure("cold_boot_per_virtme_ng_ratio", cold / theirs, runs),
            ]
        return found


def measure(
    guest_factory: GuestFactory, *, clones: int = CLONES, quick: bool = False
) -> list[Figure]:
    """Take all figures in one run.

    Args:
        guest_factory: kernel, image and QEMU to measure with.
        clones: how many guests to clone.
        quick: make one round, and a tenth of the other repetitions, for a first look.
    """
    share = 10 if quick else 1
    return [
        *time_starts(guest_factory, clones, 1 if quick else ROUNDS).figures(),
        *_calls(guest_factory, CALLS // share),
        *weigh_clones(guest_factory, max(1, LIVES // share)),
        *count_translated(guest_factory),
        _one_scenario(max(1, PROCESSES // share)),
    ]


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


def time_starts(guest_factory: GuestFactory, clones: int, rounds: int) -> Starts:
    """Start clones, a cold guest and virtme-ng in turn, so that what else runs meets them all.

    Args:
        guest_factory: kernel, image and QEMU.
        clones: how many clones in all rounds.
        rounds: how many cold guests, and runs of virtme-ng.
    """
    found, virtme = Starts(), _virtme_command(guest_factory)
    with _guests(guest_factory) as start, progress.task("Starting guests", rounds) as task:
        start(False).close()  # warms the host's page cache
        for number in range(rounds):
            for _ in range(max(1, clones // rounds)):
                began = time.monotonic()
                guest = start(False)
                try:
                    first_ioctl(guest)
                    found.clones.append(time.monotonic() - began)
                finally:
                    guest.close()
            began = time.monotonic()
            start(True).close()
            found.cold.append(time.monotonic() - began)
            if virtme:
                found.virtme.append(_seconds(virtme, guest_factory.kernel.release))
            task.update(number + 1)
    return found


def _virtme_command(guest_factory: GuestFactory) -> list[str]:
    """Return how virtme-ng boots the same kernel, after it did so once; nothing without it."""
    vng = host.own_script("vng")
    if vng is None:
        return []
    what = ["--run", str(guest_factory.kernel.bzimage), "--disable-kvm", "--cpus", "1", "--verbose"]
    # It runs programs that are beside it.
    path = f"PATH={vng.parent}:{os.environ['PATH']}"
    command = ["env", path, os.fspath(vng), *what, "--exec", "uname -r"]
    _seconds(command, guest_factory.kernel.release)
    return command


def _calls(guest_factory: GuestFactory, count: int) -> list[Figure]:
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
        finally:
            guest.close()
    return [Figure("call_p50_ms", statistics.median(times) * 1000, count)]


def weigh_clones(guest_factory: GuestFactory, count: int) -> list[Figure]:
    """Weigh clones after a token scenario.

    Beside another one it has for itself what it wrote; alone also what it has only read: the
    template's memory, QEMU's program.

    Args:
        guest_factory: kernel, image and QEMU.
        count: how many pairs of clones.
    """
    spec = guest_factory.boot_spec(find_topology(TOPOLOGY))
    alone: list[float] = []
    beside: list[float] = []
    with tempfile.TemporaryDirectory(prefix="vfio-lab-bench-") as scratch:
        for number in range(count):
            with contextlib.ExitStack() as guests:
                for name, weights in ((f"first-{number}", alone), (f"second-{number}", beside)):
                    started = Guest.start(name, spec, Path(scratch) / name)
                    guest = guests.enter_context(contextlib.closing(started))
                    _token_scenario(guest)
                    weights.append(private_bytes(guest.qemu.process.pid) / 1e6)
    return [
        Figure("private_mb_per_guest", statistics.median(beside), count, "beside another guest"),
        Figure("private_mb_alone", statistics.median(alone), count),
    ]


def count_translated(guest_factory: GuestFactory) -> list[Figure]:
    """Count the blocks of kernel code that a token scenario runs; without KVM only."""
    known = guest_factory.caps.architecture == X86_64  # the plugin knows where its kernel is
    if guest_factory.accelerator.name != "tcg" or not known:
        return []
    with tempfile.TemporaryDirectory(prefix="vfio-lab-bench-") as scratch:
        folder, spec = Path(scratch), guest_factory.boot_spec(find_topology(TOPOLOGY))
        wrapper = translated.write_wrapper(folder, spec.caps.binary)
        seen = replace(spec, caps=replace(spec.caps, binary=wrapper))
        with contextlib.closing(Guest.start("bench", seen, folder / "bench")) as guest:
            _token_scenario(guest)
        (ran,) = (folder / translated.RAN).iterdir()
        return [Figure("translated_blocks_per_scenario", len(translated.read_blocks(ran)))]


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
    with (
        tempfile.TemporaryDirectory(prefix="vfio-lab-bench-") as evidence,
        progress.task("Running one scenario", count) as task,
    ):
        command = [*PYTEST, "-q", "--lab-artifacts", evidence, ONE_SCENARIO]
        _seconds(command, "1 passed")  # a warm-up
        times = []
        for number in range(count):
            times.append(_seconds(command, "1 passed"))
            task.update(number + 1)
    return Figure("one_scenario_s", statistics.median(times), count)


def _seconds(command: list[str], proof: str) -> float:
    """Return the seconds of a command whose output must contain `proof`."""
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    seconds = time.monotonic() - began
    if proof not in (said := (done.stdout + done.stderr).decode(errors="replace")):
        raise LabError(f"no {proof!r} from {' '.join(command)}", tail=said)
    return seconds
