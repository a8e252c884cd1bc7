"""What rules are made of: a name, the claims that they rest on, and how the kernel refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from vfio_lab.client.call import name_of

Facts: TypeAlias = Mapping[str, object]  # what the kernel says, by name
Rule: TypeAlias = Callable[..., Facts | None]
RULES: dict[str, Rule] = {}
CITED: dict[str, tuple[str, ...]] = {}


class Denied(Exception):
    """The kernel refuses with an errno; it may have done something, and say something, before."""

    def __init__(self, errno: int, facts: Facts | None = None) -> None:
        super().__init__(name_of(errno))
        self.errno, self.facts = errno, facts or {}


class Blocks(Exception):
    """The kernel waits for other users in a step before it answers (B15, B20, B21)."""


class KnownBug(Blocks):
    """A step after which the kernel is known to be broken, see docs/findings.md."""


def deny_if(condition: object, errno: int) -> None:
    """Refuse the step with an errno if the condition is true."""
    if condition:
        raise Denied(errno)


def rule(*claims: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the step of its name, resting on claims."""

    def register(function: Rule) -> Rule:
        RULES[function.__name__] = function
        CITED[function.__name__] = claims
        return function

    return register
