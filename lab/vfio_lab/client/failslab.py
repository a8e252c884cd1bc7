"""Failslab: makes single allocations of the kernel fail.

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
    """Enable failslab for allocations that may sleep, almost all of them, without log messages.

    Args:
        root: the machine's administrator.

    Raises:
        Refusal: ENOENT, the kernel was built without CONFIG_FAILSLAB.
    """
    root.write_file(f"{KNOBS}/ignore-gfp-wait", "N")
    root.write_file(f"{KNOBS}/verbose", "0")


def fail_each(user: User, call: Callable[[], T], undo: Callable[[T], object]) -> list[int]:
    """Repeat a call and fail its first, second, ... allocation in turn, until none is left to fail.

    Args:
        user: the user that makes the call.
        call: one system call or one write to a file, always the same.
        undo: called with the result of a successful call; runs without fault injection.

    Returns:
        The errno of each call with a failed allocation, 0 where the call succeeded all the same.

    Raises:
        Refusal: the call is refused although no allocation failed.
        UsageError: the call makes too many allocations.
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
        f"{user.name}'s call makes too many allocations",
        guest=user.channel.name,
        expected=f"fewer than {MOST} allocations",
        seen=f"more, with errno {number} at the last",
        hint="undo must restore the state before the call",
    )


def _has_failed(user: User, nth: int) -> bool:
    """Return whether an allocation failed in the user's last call, and record it in that call."""
    failed = _starve(user, 0)
    if failed and user.latest is not None:
        user.latest.failed_allocation = nth
    return failed


def _starve(user: User, nth: int) -> bool:
    about = f"{user.name}: fail allocation {nth}"
    deadline = Deadline.after(CALL_TIMEOUT_S)
    return bool(user.channel.call(user.pid, "starve", about, deadline=deadline, nth=nth)["value"])
