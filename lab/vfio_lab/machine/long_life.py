"""A guest that scenarios use one after another: a turn for each, and nothing may be left.

A pristine guest never shows lockdep two lock orders, a leak that grows, or what an earlier user
left. A turn looks like a guest of the scenario's own: its evidence has what happened in it alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vfio_lab.errors import LabError, LeftBehind
from vfio_lab.machine.base import ClockAnchor
from vfio_lab.machine.debugger import Debugger, connected_to_gdbstub
from vfio_lab.machine.guest import BOOT_TIMEOUT_S, BootSpec, Guest
from vfio_lab.machine.leftovers import Caretaker, unload_vfio
from vfio_lab.qemu.argv import CONFIG_WRITES_LOG
from vfio_lab.qemu.console import complaints, read_console
from vfio_lab.qemu.qmp import Qmp
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.host_time import Progress

WRITTEN_BY_QEMU = ("console.log", CONFIG_WRITES_LOG, "qemu.log", "qmp.jsonl")


class Turn(Guest):
    """A scenario's turn in a long-lived guest; `close` hands the guest on.

    Args:
        life: of the guest.
        begins: how long each file that QEMU writes was when the turn began, in bytes.
    """

    life: LongLife
    begins: dict[str, int]

    @classmethod
    def of(cls, life: LongLife, name: str, folder: Path) -> Turn:
        """Begin a turn.

        Args:
            life: of the guest.
            name: the guest's name during the turn.
            folder: where console, logs and transcript of the turn go.
        """
        whole = life.guest
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        channel = whole.channel
        turn = cls(name, whole.machine, folder, whole.qemu, channel, whole.monitor, whole.agent)
        turn.life, turn.begins = life, {each: _size(whole, each) for each in WRITTEN_BY_QEMU}
        whole.kernel_log()
        whole._log.clear()
        turn.awake = _moved(whole.awake)
        channel.error_context, channel.log = turn.error_context, folder / "console.log"
        channel.stall = turn.stall
        return turn

    @property
    def console(self) -> Path:
        """The file with the console's output of this turn, brought up to date with QEMU's others.

        Reading it is what the evidence does first.
        """
        for name, begin in self.begins.items():
            path = self.life.guest.folder / name
            if path.exists():
                with path.open("rb") as file:
                    file.seek(begin)
                    (self.folder / name).write_bytes(file.read())
        return self.folder / "console.log"

    @property
    def qmp(self) -> Qmp:
        """QEMU's monitor."""
        return self.life.guest.qmp

    @property
    def progress(self) -> Progress:
        """The progress of QEMU's process."""
        return self.life.guest.progress

    @cached_property
    def debugger(self) -> Debugger:
        """Breakpoints in the guest's kernel, removed when the turn ends."""
        folder = self.life.guest.folder
        return Debugger(self, lambda: connected_to_gdbstub(folder, self.listen_for_gdb))

    def close(self) -> None:
        """Put the guest in order for the next scenario; idempotent.

        Raises:
            LeftBehind: something stays, or the kernel complained meanwhile.
        """
        if "debugger" in self.__dict__:
            self.debugger.close()
        if "ssh" in self.__dict__:
            self.ssh.close()
        if self.life.turn is self:
            self.life.end_turn()

    def keep(self) -> str:
        """Let the guest outlive this process; no other scenario gets it."""
        self.life.over = True
        return self.life.guest.keep()


@dataclass
class LongLife:
    """A guest, and the scenarios that have had it.

    Args:
        guest: the guest.
        caretaker: puts it in order.
        had: the scenarios that have had it, in order.
        turn: that of the scenario that has it now.
        over: whether no other scenario may have it.
        users: which scenario started a process, by its pid.
    """

    guest: Guest
    caretaker: Caretaker
    had: list[str] = field(default_factory=list)
    turn: Turn | None = None
    over: bool = False
    users: dict[int, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, name: str, machine: BootSpec, folder: Path, *, keepable: bool) -> LongLife:
        """Start a guest for several scenarios.

        Args:
            name: its name.
            machine: what it is started from.
            folder: where QEMU writes its files.
            keepable: whether it may outlive this process.

        Raises:
            LabError: the guest did not become ready.
        """
        guest = Guest.start(name, machine, folder, keepable=keepable)
        try:
            guest.wait_boot_complete(Deadline.after(BOOT_TIMEOUT_S * machine.kernel.slowness))
            guest.root.kill()
            return cls(guest, Caretaker.of(guest))
        except BaseException:
            guest.close()
            raise

    def begin_turn(self, scenario: str, name: str, folder: Path) -> Turn:
        """Give the guest to a scenario.

        Args:
            scenario: its ID.
            name: the guest's name during the turn.
            folder: the scenario's evidence folder.
        """
        self.turn = Turn.of(self, name, folder)
        self.had.append(scenario)
        return self.turn

    def end_turn(self) -> None:
        """Put the guest in order after a scenario.

        Raises:
            LeftBehind: something stays, or the kernel complained meanwhile.
        """
        turn, self.turn = self.turn, None
        if turn is None or self.over:
            return
        self.users |= {user.pid: self.had[-1] for user in turn.users}
        seen_with_the_scenario = len(complaints(read_console(turn.console)))
        left = self._tidied()
        found = complaints(read_console(turn.console))
        self.over = bool(left or found)
        left += [
            f"the kernel complained: {each.headline}" for each in found[seen_with_the_scenario:]
        ]
        if left and not seen_with_the_scenario:
            raise LeftBehind(
                f"{self.had[-1]} left something in a guest that others use after it",
                guest=turn.name,
                expected="all that the guest had before, and no more",
                seen="; ".join(left),
                where=turn.folder,
            )

    def end(self) -> None:
        """Look for memory that nobody refers to, unload vfio, and throw the guest away.

        Raises:
            LeftBehind: there is such memory, or vfio cannot be unloaded.
        """
        begins = len(complaints(read_console(self.guest.console)))
        try:
            left = [] if self.over else self._last_look()
            said = complaints(read_console(self.guest.console))[begins:]
        finally:
            self.close()
        left += [f"the kernel complained: {each.headline}" for each in said]
        if left:
            raise LeftBehind(
                f"{len(self.had)} scenarios, one after another, left something in their guest",
                guest=self.guest.name,
                expected="nothing, after all users have ended and vfio has been unloaded",
                seen="; ".join(left),
                where=self.guest.folder,
            )

    def close(self) -> None:
        """Throw the guest away, unless it is kept; idempotent."""
        self.over = True
        self.guest.close()

    def _tidied(self) -> list[str]:
        """Put everything in order; return what stays."""
        try:
            self.caretaker.tidy()
            return self.caretaker.left()
        except (LabError, OSError) as error:
            return [str(error).replace("\n", " ")]

    def _last_look(self) -> list[str]:
        try:
            leaks = self.caretaker.leaks()
            left = [f"memory of {self._whose(leak.pid)}: {leak.where}" for leak in leaks]
            if leaks:
                text = "\n".join(leak.report for leak in leaks)
                (self.guest.folder / "kmemleak.txt").write_text(text)
            return left + unload_vfio(self.caretaker)
        except (LabError, OSError) as error:
            return [str(error).replace("\n", " ")]

    def _whose(self, pid: int) -> str:
        return self.users.get(pid, f"process {pid}")


def _size(guest: Guest, name: str) -> int:
    path = guest.folder / name
    return path.stat().st_size if path.exists() else 0


def _moved(anchor: ClockAnchor | None) -> ClockAnchor | None:
    """Return the same relation of both clocks at this moment."""
    if anchor is None:
        return None
    now = time.time()
    return ClockAnchor(now, anchor.log_us + round((now - anchor.at) * 1e6))
