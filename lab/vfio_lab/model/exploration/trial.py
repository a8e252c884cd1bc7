"""A walk taken in a pristine guest, up to the first disagreement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vfio_lab.client.call import Refusal
from vfio_lab.client.channel import UserGone
from vfio_lab.errors import DeadlineExceeded, GuestLost
from vfio_lab.machine.base import TestMachine
from vfio_lab.model.exploration.performer import Performer
from vfio_lab.model.exploration.steps import ROOT, Result, Step, take
from vfio_lab.model.state import VFIO, State
from vfio_lab.qemu.console import complaints, parse_record, read_console

MODULES = ("vfio", "vfio_pci", "vfio_iommu_type1", "iommufd")
PINNED = ("VmLck", "VmPin")
WHO = re.compile(r"CPU: \d+ PID: \d+ |, CPU#.*")  # who a complaint is about
NO_ANSWER = "no answer"
COMPLAINT = "the kernel complains"
LEFTOVERS = "something is left when all is closed"


@dataclass(frozen=True)
class Disagreement:
    """Where a kernel and what it is compared with differ.

    Args:
        steps: what was done, the step in question last.
        expected: what the model, or the other kernel, answers.
        seen: what the kernel answers.
        kind: what kind of difference it is, if it is not the answer's.
        detail: more about it, in lines.
    """

    steps: tuple[Step, ...]
    expected: str
    seen: str
    kind: str = ""
    detail: str = ""

    @property
    def signature(self) -> tuple[str, ...]:
        """What stays the same when a walk is made shorter."""
        if self.kind:
            return (self.kind, self.seen)
        return (self.steps[-1].call, self.expected, self.seen)

    def __str__(self) -> str:
        """Return it in a line."""
        what = self.kind or str(self.steps[-1])
        return f"{what}: expected {self.expected}, but {self.seen}"


class Stop(Exception):
    """A walk ends at its first disagreement.

    Args:
        found: the disagreement.
    """

    def __init__(self, found: Disagreement) -> None:
        super().__init__(str(found))
        self.found = found


@dataclass
class Trial:
    """One walk in one guest, and in a second one if two kernels are compared.

    Args:
        start: the state to begin with.
        guest: the guest.
        other: a guest of another kernel, compared with instead of the model.
        careful: look for complaints after each step, to know which step it was.
    """

    start: State
    guest: TestMachine
    other: TestMachine | None = None
    careful: bool = False

    def run(self, steps: Iterable[Step]) -> tuple[int, Disagreement | None]:
        """Take the steps; return how many there were, and the first disagreement."""
        taken: list[Step] = []
        performers = self._performers()
        before = {module: self._references(module) for module in MODULES}
        state = self.start
        try:
            for step in steps:
                expected, state = take(state, step)
                taken.append(step)
                self._compare(taken, expected, [self._perform(one, taken) for one in performers])
                if self.careful:
                    self._no_complaint(taken)
            self._no_complaint(taken)
            walked = len(taken)
            for step in endings(state):
                expected, state = take(state, step)
                taken.append(step)
                self._compare(taken, expected, [self._perform(one, taken) for one in performers])
            self._nothing_left(taken[:walked], state, performers[0], before)
            self._no_complaint(taken)
        except Stop as stop:
            return len(taken), stop.found
        return len(taken), None

    def _performers(self) -> list[Performer]:
        guests = [self.guest] if self.other is None else [self.guest, self.other]
        return [Performer(guest, self.start.privileged) for guest in guests]

    def _perform(self, performer: Performer, taken: Sequence[Step]) -> Result:
        try:
            return performer.perform(taken[-1])
        except (DeadlineExceeded, GuestLost, UserGone) as error:
            found = complaints(read_console(performer.guest.console))
            seen = WHO.sub("", found[0].headline) if found else type(error).__name__
            lost = Disagreement(tuple(taken), "an answer", seen, NO_ANSWER, str(error))
            raise Stop(lost) from error

    def _compare(self, taken: Sequence[Step], expected: Result, seen: Sequence[Result]) -> None:
        """Compare the answers to a step with the model's, or with each other."""
        if self.other is not None:
            expected, seen = seen[1], seen[:1]
        if seen[0] != expected:
            raise Stop(Disagreement(tuple(taken), str(expected), str(seen[0])))

    def _no_complaint(self, taken: Sequence[Step]) -> None:
        log = "\n".join(parse_record(record).text for record in self.guest.kernel_log())
        for found in complaints(log)[:1]:
            seen = WHO.sub("", found.headline)
            raise Stop(Disagreement(tuple(taken), "silence", seen, COMPLAINT, found.report))

    def _nothing_left(
        self, taken: Sequence[Step], state: State, performer: Performer, before: Mapping[str, int]
    ) -> None:
        """Look for what nobody has open any more: references to modules, pinned memory.

        While a device is on vfio-pci, vfio's own file system is mounted and holds vfio; 6.1 has no
        such file system.
        """
        mounted = any(each.driver == VFIO for each in state.functions.values())
        now = {module: self._references(module) for module in MODULES}
        now["vfio"] -= mounted
        left = [
            f"{module} has {now[module] - before[module]} references too many"
            for module in MODULES
            if now[module] > before[module]
        ]
        for user in performer.users.values():
            status = self.guest.root.read_file(f"/proc/{user.pid}/status")
            lines = (line for line in status.splitlines() if line.startswith(PINNED))
            left += [f"{user.name}: {line}" for line in lines if not line.endswith(" 0 kB")]
        if left:
            raise Stop(Disagreement(tuple(taken), "nothing", "; ".join(left), LEFTOVERS))

    def _references(self, module: str) -> int:
        try:
            return int(self.guest.root.read_file(f"/sys/module/{module}/refcnt"))
        except Refusal:
            return 0


def endings(state: State) -> list[Step]:
    """Return the steps that close everything that is open, and then take drivers from devices.

    A PF with VFs keeps its driver, as removing VFs takes a second.
    """
    idle = [each.role for each in state.functions.values() if each.driver and not each.vfs]
    bound = [role for role in idle if not state.functions[role].place.bridge]
    closes = [Step("close", user, {"file": name}) for name, (user, _) in state.descriptors.items()]
    return closes + [Step("unbind", ROOT, {"function": role}) for role in bound]
