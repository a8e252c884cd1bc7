"""Whether the clock of a guest goes as fast as the host's.

A kernel measures its TSC when it boots, with another timer beside it. QEMU's threads may be put
aside in between on a busy host, and the guest's clock then goes some ten times too fast for good:
what waits there for seconds ends at once. Source: arch/x86/kernel/tsc.c, pit_calibrate_tsc().
"""

from __future__ import annotations

from vfio_lab.errors import WrongClock

TIMES = 3.0
SLACK_S = 1.0


def verify_clock(name: str, shown_s: float, given_s: float) -> None:
    """Raise an error if a guest's clock has gone too far.

    Args:
        name: the guest's name.
        shown_s: seconds by the guest's clock.
        given_s: seconds by the host's, the same or more.

    Raises:
        WrongClock: the guest's are many more.
    """
    if shown_s > TIMES * given_s + SLACK_S:
        raise WrongClock(
            f"the clock of {name} is wrong",
            expected=f"{given_s:.1f} s, as by the host's clock",
            seen=f"{shown_s:.1f} s",
        )
