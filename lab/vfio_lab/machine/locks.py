"""Who waits for a lock, and who holds it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FILE = "file"


@dataclass(frozen=True)
class LockWait:
    """A user that waits for a lock.

    Args:
        waiter: the user's name.
        lock: the address of the lock.
        kind: `mutex`, `rwsem`, or `file` for a file of sysfs that nobody may be in.
        holder: the name of the user that holds the lock or is in the file, None if it is another
            task.
    """

    waiter: str
    lock: int
    kind: str
    holder: str | None

    def __str__(self) -> str:
        """Return `waits for the mutex ffff888100c0a0f8, which remover holds`."""
        if self.kind == FILE:
            return f"waits for {self.holder or 'another'} to leave a file that it removes"
        return f"waits for the {self.kind} {self.lock:x}, which {self.holder or 'another'} holds"


def deadlock(waits: Iterable[LockWait]) -> list[LockWait]:
    """Return the waits that form a cycle, empty if there is none."""
    by_waiter = {wait.waiter: wait for wait in waits}
    for start in by_waiter:
        chain: list[LockWait] = []
        name: str | None = start
        while name in by_waiter and by_waiter[name] not in chain:
            chain.append(by_waiter[name])
            name = by_waiter[name].holder
        if chain and name == start:
            return chain
    return []
