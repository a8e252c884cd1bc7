"""Steps and answers as values: taking a step leads from one state to the next."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from vfio_lab.client.call import name_of
from vfio_lab.model import administration
from vfio_lab.model.rules import RULES, Denied, Facts
from vfio_lab.model.state import State

ROOT = "root"


@dataclass(frozen=True)
class Step:
    """Something that a user does.

    Args:
        call: the name of a rule.
        user: who does it; `root` binds drivers and writes sysfs.
        given: the arguments of the rule, by name.
    """

    call: str
    user: str
    given: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return `alice: set_container(group=g1, file=c1)`."""
        words = ", ".join(f"{name}={value}" for name, value in self.given.items())
        return f"{self.user}: {self.call}({words})"


@dataclass(frozen=True)
class Result:
    """What the kernel answers.

    Args:
        errno: 0 if the kernel does not refuse.
        facts: what it says, by name.
    """

    errno: int = 0
    facts: Facts = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the errno's name, or what was said."""
        if self.errno:
            return name_of(self.errno)
        return ", ".join(f"{name}={value}" for name, value in self.facts.items()) or "success"


def take(state: State, step: Step) -> tuple[Result, State]:
    """Return what the kernel answers to a step, and the state after it.

    The administrator sees the same things after each of their steps, refused or not.

    Raises:
        Blocks: the kernel would wait for other users.
    """
    fixed = (state.platform, *state.platform.places.values())
    following = deepcopy(state, {id(each): each for each in fixed})
    following.log = ()
    try:
        errno, facts = 0, RULES[step.call](following, step.user, **step.given)
    except Denied as denied:
        errno, facts = denied.errno, denied.facts
    if step.user == ROOT:
        facts = administration.seen(following)
    return Result(errno, facts or {}), following
