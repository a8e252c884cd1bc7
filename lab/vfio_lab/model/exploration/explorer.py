"""Exploration: walks in several guests at once, until one disagrees or time is up."""

from __future__ import annotations

import copyreg
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from vfio_lab.evidence.collect import collect_evidence
from vfio_lab.machine.guest import BootSpec, Guest
from vfio_lab.model.exploration.pasted import scenario
from vfio_lab.model.exploration.platforms import platform
from vfio_lab.model.exploration.shrink import shortest
from vfio_lab.model.exploration.steps import Step, take
from vfio_lab.model.exploration.trial import Disagreement, Trial
from vfio_lab.model.exploration.walk import USERS, generate
from vfio_lab.model.state import State, fresh

LANES = (0, 1, 2, 3)
STOP = "stop"
FEWEST_CALLS = 5
SHRINKING_S = 180.0
SCENARIO, STEPS = "scenario.py", "steps.txt"


def _proxy(values: dict[str, object]) -> MappingProxyType[str, object]:
    return MappingProxyType(values)


# What a lane's process is told has some of them, and pickle does not know them.
copyreg.pickle(MappingProxyType, lambda proxy: (_proxy, (dict(proxy),)))


@dataclass(frozen=True)
class Exploration:
    """What is explored.

    Args:
        machine: what guests are cloned from.
        folder: where evidence goes.
        seed: what the walks depend on, beside the hardware and the model.
        seconds: when to stop.
        steps: when to stop, in steps of all lanes; 0 for no limit.
        other: clones of another kernel, to compare with instead of the model.
        lanes: the numbers of the walks that are taken at once.
    """

    machine: BootSpec
    folder: Path
    seed: int = 1
    seconds: float = 60.0
    steps: int = 0
    other: BootSpec | None = None
    lanes: tuple[int, ...] = LANES

    @property
    def machines(self) -> tuple[BootSpec, ...]:
        """What guests are cloned from, of each kernel."""
        return (self.machine,) if self.other is None else (self.machine, self.other)

    @property
    def start(self) -> State:
        """The state in which walks begin."""
        return start_of(self.machine)

    @property
    def other_start(self) -> State | None:
        """The state in which walks begin on the other kernel."""
        return start_of(self.other) if self.other else None


@dataclass(frozen=True)
class Explored:
    """What came of an exploration, or of one of its lanes.

    Args:
        walks: how many walks were taken.
        steps: how many steps.
        seconds: how long they took.
        found: the first disagreement.
        seen: where it was seen: lane and number of the walk.
    """

    walks: int = 0
    steps: int = 0
    seconds: float = 0.0
    found: Disagreement | None = None
    seen: str = ""

    @property
    def rate(self) -> float:
        """Steps a second."""
        return self.steps / self.seconds if self.seconds else 0.0


def start_of(machine: BootSpec) -> State:
    """Return the state of the guests that are started from a template."""
    kernel = machine.kernel
    return fresh(platform(machine.topology, kernel.carries, kernel.option), USERS)


class Enough(BaseException):
    """A lane ends; not an error that Hypothesis would look into."""


class LaneWalker:
    """One lane: walks of its own seed, one after the other.

    Args:
        exploration: what is explored.
        lane: the lane's number.
    """

    def __init__(self, exploration: Exploration, lane: int) -> None:
        self.exploration = exploration
        self.lane = lane
        self.began = time.monotonic()
        self.explored = Explored()
        self.number = 0

    def run(self) -> Explored:
        """Walk until time is up, or something is found."""
        key = f"{self.exploration.seed}/{self.lane}"
        with suppress(Enough):
            generate(self.exploration.start, key, self.take_walk, self.exploration.other_start)
        return replace(self.explored, seconds=time.monotonic() - self.began)

    def take_walk(self, steps: Sequence[Step]) -> None:
        """Take a walk in a guest; Hypothesis' first ones do too little to be worth one."""
        self.number += 1
        if self._over():
            raise Enough
        if len({step.call for step in steps}) < FEWEST_CALLS:
            return
        name = f"walk-{self.lane}-{self.number}"
        done, found = attempt(self.exploration, name, steps)
        before = self.explored
        self.explored = replace(before, walks=before.walks + 1, steps=before.steps + done)
        if found is not None:
            (self.exploration.folder / STOP).touch()
            self.explored = replace(self.explored, found=found, seen=name)
            raise Enough

    def _over(self) -> bool:
        late = time.monotonic() - self.began >= self.exploration.seconds
        share = self.exploration.steps / len(self.exploration.lanes)
        enough = 0 < share <= self.explored.steps
        return late or enough or (self.exploration.folder / STOP).exists()


def walk_lane(exploration: Exploration, lane: int) -> Explored:
    """Walk one lane, in a process of its own."""
    return LaneWalker(exploration, lane).run()


def attempt(
    exploration: Exploration, name: str, steps: Sequence[Step], *, careful: bool = False
) -> tuple[int, Disagreement | None]:
    """Take steps in fresh guests; keep their evidence if there is a disagreement.

    Args:
        exploration: what is explored.
        name: the guest's name, and its folder's.
        steps: what is done.
        careful: look for complaints after each step.
    """
    folder = exploration.folder / name
    with ExitStack() as guests:
        guest = _started(guests, name, exploration.machine, folder)
        other = None
        if exploration.other is not None:
            other = _started(guests, f"{name}-other", exploration.other, folder / "other")
        done, found = Trial(exploration.start, guest, other, careful).run(steps)
        if found is not None:
            collect_evidence(guest)
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
    return done, found


def _started(guests: ExitStack, name: str, machine: BootSpec, folder: Path) -> Guest:
    guest = Guest.start(name, machine, folder)
    guests.callback(guest.close)
    return guest


def end_with_parent() -> None:
    """Make this process end with the one that started it, which may be killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def explore(exploration: Exploration, *, shorten: bool = True) -> Explored:
    """Walk all lanes at once; of what is found, make the first lane's as short as can be.

    Args:
        exploration: what is explored.
        shorten: whether a disagreement is made shorter and kept as a scenario.
    """
    exploration.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    context, lanes = multiprocessing.get_context("spawn"), exploration.lanes
    with ProcessPoolExecutor(len(lanes), mp_context=context, initializer=end_with_parent) as pool:
        done = total(pool.map(walk_lane, [exploration] * len(lanes), lanes))
    (exploration.folder / STOP).unlink(missing_ok=True)
    found = done.found
    if found is not None and shorten:
        found = shortened_walk(exploration, found)
    return replace(done, found=found, seconds=time.monotonic() - began)


def total(parts: Iterable[Explored], seconds: float = 0.0) -> Explored:
    """Return what came of several lanes, with what the first of them found.

    Args:
        parts: what came of each.
        seconds: how long they took together.
    """
    every = tuple(parts)
    finder = next((one for one in every if one.found is not None), Explored())
    walks, steps = sum(one.walks for one in every), sum(one.steps for one in every)
    return Explored(walks, steps, seconds, finder.found, finder.seen)


def shortened_walk(exploration: Exploration, found: Disagreement) -> Disagreement:
    """Return a disagreement after as few steps as can be found, and keep it as a scenario."""
    end = time.monotonic() + SHRINKING_S
    tries = iter(range(1, 1000))

    def again(steps: Sequence[Step]) -> Disagreement | None:
        if time.monotonic() > end:
            return None
        name = f"shorter-{next(tries)}"
        _, seen = attempt(exploration, name, steps, careful=bool(found.kind))
        shutil.rmtree(exploration.folder / name, ignore_errors=True)
        return seen

    least = shortest(exploration.start, found, again)
    _, last = attempt(exploration, "shortest", least.steps, careful=bool(found.kind))
    least = last or least
    text = scenario(exploration.start, least, exploration.machine.topology.name)
    (exploration.folder / SCENARIO).write_text(text)
    (exploration.folder / STEPS).write_text(told_steps(exploration.start, least))
    return least


def told_steps(start: State, found: Disagreement) -> str:
    """Return the steps of a disagreement with what the model expects, a line each."""
    state, lines = start, []
    for step in found.steps:
        expected, state = take(state, step)
        shown = expected if step.user != "root" or expected.errno else "success"
        lines.append(f"{step} -> {shown}")
    return "\n".join([*lines, str(found), found.detail, ""])
