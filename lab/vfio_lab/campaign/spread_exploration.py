"""An exploration spread over other hosts: execnet starts a worker on each, over ssh."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import execnet

from vfio_lab.campaign import worker_files
from vfio_lab.campaign.furnishing import furnish, xspec
from vfio_lab.campaign.worker_files import Furnished
from vfio_lab.campaign.worker_hosts import WorkerHost
from vfio_lab.errors import HostError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.guest import BootSpec
from vfio_lab.machine.template import GuestFactory
from vfio_lab.model.exploration import explorer
from vfio_lab.model.exploration.explorer import STOP, Exploration, Explored
from vfio_lab.model.exploration.steps import Step
from vfio_lab.model.exploration.trial import Disagreement
from vfio_lab.spec.scenarios import home
from vfio_lab.util.cache import Cache

Lanes: TypeAlias = tuple[int, ...]
WORKER = "from vfio_lab.campaign.spread_exploration import walk_here; walk_here(channel)"
END_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Share:
    """The lanes that one host walks.

    Args:
        there: the host, None for this one.
        lanes: the numbers of the lanes.
    """

    there: Furnished | None
    lanes: Lanes


class SpreadExploration:
    """An exploration whose lanes are spread over hosts, each of which is furnished first.

    The lanes of a host that is gone are walked again on another host, or on this one.

    Args:
        exploration: what is explored, as on this host.
        hosts: as for --lab-hosts.
        shorten: whether a disagreement is made shorter and kept as a scenario.

    Raises:
        UsageError: they are no hosts.
        HostError: one cannot take part.
    """

    def __init__(self, exploration: Exploration, hosts: str, *, shorten: bool = True) -> None:
        self.exploration = exploration
        self.shorten = shorten
        self.gone: dict[str, str] = {}
        self._lost: set[str] = set()
        root, _scenarios = home()
        wanted = [exploration.machine.topology.name]
        furnished = [
            furnish(host, root, exploration.machines, wanted) for host in WorkerHost.parse(hosts)
        ]
        self.project = root.name
        self.hosts = [there for there, _line in furnished]
        self.lines = [line for _there, line in furnished]
        self._channels: list[execnet.Channel] = []

    def explore(self) -> Explored:
        """Walk all lanes, until one disagrees or time is up; bring the evidence back.

        Raises:
            HostError: a worker failed.
        """
        began, folder = time.monotonic(), self.exploration.folder
        folder.mkdir(parents=True, exist_ok=True)
        group = execnet.Group(execmodel="main_thread_only")
        try:
            done = self._walk(group, began + self.exploration.seconds)
        finally:
            group.terminate(END_TIMEOUT_S)
        finder = next((share for share, explored in done if explored.found), None)
        self._fetch(last=finder.there if finder else None)
        (folder / STOP).unlink(missing_ok=True)  # workers leave one when they end
        return explorer.total((explored for _share, explored in done), time.monotonic() - began)

    def _walk(self, group: execnet.Group, end: float) -> list[tuple[Share, Explored]]:
        """Walk the lanes of each host in a thread; begin those of a lost worker elsewhere."""
        done: list[tuple[Share, Explored]] = []
        with ThreadPoolExecutor(len(self.hosts)) as threads:

            def begin(share: Share) -> None:
                running[threads.submit(self._walk_share, group, share, end)] = share

            running: dict[Future[Explored | None], Share] = {}
            for share in self._shares():
                begin(share)
            try:
                while running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        share, explored = running.pop(future), future.result()
                        if explored is None:
                            begin(Share(self._next_host(), share.lanes))
                        else:
                            done.append((share, explored))
                            self._stop(explored.found)
            except BaseException:
                self._stop(True)
                raise
        return done

    def _shares(self) -> list[Share]:
        """Return the lanes of each host, as many as it has guests at a time."""
        shares, first = [], 0
        for there in self.hosts:
            shares.append(Share(there, tuple(range(first, first + there.reached.jobs))))
            first += there.reached.jobs
        return shares

    def _walk_share(self, group: execnet.Group, share: Share, end: float) -> Explored | None:
        """Walk some lanes until the end; return None if their worker is lost."""
        there, exploration = share.there, self.exploration
        every = sum(one.reached.jobs for one in self.hosts)
        steps = -(-exploration.steps * len(share.lanes) // every)
        left = max(0.0, end - time.monotonic())
        part = replace(exploration, seconds=left, steps=steps, lanes=share.lanes)
        if there is None:
            return explorer.explore(part, shorten=self.shorten)
        try:
            spec = xspec(there, there.project / self.project)
            channel = group.makegateway(spec).remote_exec(WORKER)
            self._channels.append(channel)
            channel.send(self._words(part, there))
            return _explored(channel.receive())
        except execnet.RemoteError as error:
            raise HostError(f"cannot explore on host {there.name}", tail=str(error)) from None
        except (execnet.HostNotFound, EOFError, OSError) as error:
            again = there.name in self._lost  # a worker that dies each time would begin for ever
            if again or not there.reached.host.answers():
                self.gone.setdefault(there.name, str(error) or "its connection ended")
            self._lost.add(there.name)
            return None

    def _words(self, part: Exploration, there: Furnished) -> dict[str, Any]:
        """Return what a worker is told: plain values, which execnet can send."""
        known = zip(part.machines, there.kernels, strict=True)
        return {
            "kernels": [sent or machine.kernel.name for machine, sent in known],
            "topology": part.machine.topology.name,
            "folder": str(there.evidence(part.folder.name)),
            "seed": part.seed,
            "seconds": part.seconds,
            "steps": part.steps,
            "lanes": part.lanes,
            "shorten": self.shorten,
        }

    def _next_host(self) -> Furnished | None:
        return next((one for one in self.hosts if one.name not in self.gone), None)

    def _stop(self, found: object) -> None:
        """End the lanes of all hosts if something is found."""
        if found:
            (self.exploration.folder / STOP).touch()
            for channel in self._channels:
                with contextlib.suppress(OSError):  # closed: it has ended
                    channel.send(STOP)

    def _fetch(self, last: Furnished | None) -> None:
        """Bring the evidence back; last, to be the one that is kept, from the host that found."""
        run = self.exploration.folder
        for there in sorted(self.hosts, key=lambda one: one is last):
            if there.name not in self.gone:
                try:
                    worker_files.fetch_evidence(there, run.name, run)
                except HostError as error:
                    self.gone[there.name] = str(error.seen)


def walk_here(channel: execnet.Channel) -> None:
    """Walk lanes on this host, for the host at the other end of a channel.

    Args:
        channel: gives the words, and gets what came of them. More than them, or its end, means to
            stop.
    """
    words = channel.receive()
    folder = Path(words["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    channel.setcallback(lambda _said: (folder / STOP).touch(), endmarker=None)
    machine, *other = (_machine(kernel, words["topology"]) for kernel in words["kernels"])
    exploration = Exploration(
        machine,
        folder,
        words["seed"],
        words["seconds"],
        words["steps"],
        other[0] if other else None,
        words["lanes"],
    )
    channel.send(asdict(explorer.explore(exploration, shorten=words["shorten"])))


def _machine(kernel: str, topology: str) -> BootSpec:
    return GuestFactory.open(Cache.default(), kernel).boot_spec(find_topology(topology))


def _explored(said: dict[str, Any]) -> Explored:
    """Return what a worker sent as values again."""
    found = said["found"]
    if found is None:
        return Explored(**said)
    steps = tuple(Step(**step) for step in found["steps"])
    return Explored(**{**said, "found": Disagreement(**{**found, "steps": steps})})
