"""Failslab: allocations of the kernel that fail on demand, one at a time.

Source: mm/failslab.c, __should_failslab(); lib/fault-inject.c, should_fail_ex();
fs/proc/base.c, proc_fail_nth_write().
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vfio_lab.client.call import Refusal
from vfio_lab.client.user import CALL_TIMEOUT_S, User
from vfio_lab.errors import UsageError
from vfio_lab.util.deadline import Deadline

T = TypeVar("T")
KNOBS = "/sys/kernel/debug/failslab"
MOST = 2000


def enable(root: User) -> None:
    """Let allocations fail that may sleep, which is to say almost all, without a word in the log.

    Args:
        root: the machine's administrator.

    Raises:
        Refusal: ENOENT, the kernel was built without CONFIG_FAILSLAB.
    """
    root.write_file(f"{KNOBS}/ignore-gfp-wait", "N")
    root.write_file(f"{KNOBS}/verbose", "0")


def fail_each(user: User, call: Callable[[], T], undo: Callable[[T], object]) -> list[int]:
    """Repeat a call, each time with the next of its allocations failing, until none fails.

    Args:
        user: the user that makes it.
        call: one system call or one write to a file, always the same.
        undo: called with the result of a successful call; runs without fault injection.

    Returns:
        The errno of each call an allocation of which failed, 0 where it did without.

    Raises:
        Refusal: the call is refused although it got all memory.
        UsageError: there is no end to it.
    """
    seen: list[int] = []
    while len(seen) < MOST:
        _starve(user, len(seen) + 1)
        number = 0
        try:
            made = call()
        except Refusal as refusal:
            number = refusal.errno or 0
            if not _has_failed(user, len(seen) + 1):
                raise
        else:
            failed = _has_failed(user, len(seen) + 1)
            undo(made)
            if not failed:
                return seen
        seen.append(number)
    raise UsageError(
        f"{user.name}'s call allocates without end",
        guest=user.channel.name,
        expected=f"less than {MOST} allocations",
        seen=f"more, with errno {number} at the last",
        hint="undo must bring back what was before the call",
    )


def _has_failed(user: User, nth: int) -> bool:
    """Return whether an allocation failed in the user's last call, and note it there if so."""
    failed = _starve(user, 0)
    if failed and user.latest is not None:
        user.latest.failed_allocation = nth
    return failed


def _starve(user: User, nth: int) -> bool:
    about = f"{user.name}: fail allocation {nth}"
    deadline = Deadline.after(CALL_TIMEOUT_S)
    return bool(user.channel.call(user.pid, "starve", about, deadline=deadline, nth=nth)["value"])
