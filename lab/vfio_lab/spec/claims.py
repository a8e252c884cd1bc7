"""Claims: sentences about behaviour, each with a source and the kernels it holds on.

They are data (`spec/data/claims-*.toml`), so that a scenario cites an ID and says nothing twice.
"""

from __future__ import annotations

import enum
import functools
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from vfio_lab.spec import changes
from vfio_lab.spec.changes import Change
from vfio_lab.util.lookup import Named

AREAS = Named(
    "area",
    {
        "A": "VF token",
        "B": "SR-IOV under vfio-pci",
        "C": "hot reset",
        "D": "no-IOMMU",
        "E": "groups",
        "F": "the rest of vfio-pci",
        "G": "users of vfio-pci: QEMU, DPDK, libvirt, the kernel's own tests",
        "H": "when the kernel has no memory",
    },
)
THREADS = Named(
    "thread",
    {
        "2013-groups": "VFIO device groups and libvirt",
        "2018-unmanaged-sriov": "pci-iov: Add support for unmanaged SR-IOV",
        "2019-noiommu": "VFIO/VMBUS: Add VFIO VMBUS driver support",
        "2020-vf-token": "vfio/pci: Introduce VF token",
        "2023-hot-reset-info": "vfio/pci: Report dev_id in VFIO_DEVICE_GET_PCI_HOT_RESET_INFO",
        "mainline": "what the kernel does and no thread asked for",
    },
)


class Status(enum.Enum):
    """How far a claim has come."""

    SHOWN = "shown"
    PLANNED = "planned"
    NOT_HERE = "not here"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Args:
        id: area letter and number, `A02`.
        sentence: what it says.
        thread: which thread it comes from, a key of `THREADS`.
        source: kernel file:function that decides it.
        status: whether a scenario shows it.
        since: changes a kernel must have for it to hold.
        until: changes that ended it.
        needs: kernel options without which it cannot be asked.
        where: what else it takes: a kind of hardware, a tool.
        why: why it cannot be shown here, or what stands in the way.
    """

    id: str
    sentence: str
    thread: str
    source: str
    status: Status
    since: tuple[Change, ...] = ()
    until: tuple[Change, ...] = ()
    needs: tuple[str, ...] = ()
    where: str = ""
    why: str = ""

    @property
    def area(self) -> str:
        """Its area's letter."""
        return self.id[0]

    @property
    def shown(self) -> bool:
        """Whether a scenario shows it."""
        return self.status is Status.SHOWN

    def kernels(self) -> str:
        """Return the range of kernels in words, as changes."""
        words = [f"since {one.id}" for one in self.since] + [
            f"until {one.id}" for one in self.until
        ]
        return ", ".join(words) or "all"


class Outcome(enum.Enum):
    """Whether a claim holds on a kernel."""

    HOLDS = "holds"
    NOT_YET = "not yet true"
    ENDED = "no longer true"


@dataclass(frozen=True)
class Verdict:
    """What to expect of a claim on a kernel.

    Args:
        outcome: whether it holds.
        change: the change that is missing, or that ended it.
    """

    outcome: Outcome
    change: Change | None = None

    def __bool__(self) -> bool:
        """Whether the claim holds."""
        return self.outcome is Outcome.HOLDS

    def __str__(self) -> str:
        """Return the outcome and the change that explains it."""
        if self.change is None:
            return self.outcome.value
        joined = "before" if self.outcome is Outcome.NOT_YET else "since"
        return f"{self.outcome.value}: {joined} {self.change}"


def judge(claim: Claim, has: Callable[[Change], bool]) -> Verdict:
    """Say whether a claim holds on a kernel that knows its changes.

    Args:
        claim: the claim.
        has: whether the kernel carries a change.
    """
    for change in claim.since:
        if not has(change):
            return Verdict(Outcome.NOT_YET, change)
    for change in claim.until:
        if has(change):
            return Verdict(Outcome.ENDED, change)
    return Verdict(Outcome.HOLDS)


def order(claim_id: str) -> tuple[str, int]:
    """Return what claims are sorted by: area, then number."""
    return claim_id[0], int(claim_id[1:])


@functools.cache
def load() -> Named[Claim]:
    """Return the claims of the data files, in order of their IDs."""
    found: dict[str, Claim] = {}
    for area in AREAS:
        path = resources.files("vfio_lab.spec") / "data" / f"claims-{area.lower()}.toml"
        for entry in tomllib.loads(path.read_text())["claim"]:
            found[entry["id"]] = _claim(entry)
    return Named("claim", found)


def select(thread: str | None = None, area: str | None = None) -> list[Claim]:
    """Return the claims of a thread, of an area, of both, or all.

    Args:
        thread: a key of `THREADS`.
        area: a letter of `AREAS`, in either case.

    Raises:
        UsageError: there is no such thread or area.
    """
    letter = area.upper() if area is not None else None
    if thread is not None:
        _ = THREADS[thread]
    if letter is not None:
        _ = AREAS[letter]
    return [
        claim
        for claim in load().values()
        if thread in (None, claim.thread) and letter in (None, claim.area)
    ]


def _claim(entry: Mapping[str, str | list[str]]) -> Claim:
    registry = changes.load()
    return Claim(
        id=str(entry["id"]),
        sentence=str(entry["sentence"]),
        thread=str(entry["thread"]),
        source=str(entry["source"]),
        status=Status(entry.get("status", Status.PLANNED.value)),
        since=tuple(registry[one] for one in entry.get("since", ())),
        until=tuple(registry[one] for one in entry.get("until", ())),
        needs=tuple(entry.get("needs", ())),
        where=str(entry.get("where", "")),
        why=str(entry.get("why", "")),
    )
