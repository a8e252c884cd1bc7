"""Steps and answers as values, and the rules that lead from one state to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from vfio_lab.client.call import name_of
from vfio_lab.model.state import ContainerModel, DeviceModel, GroupModel, IommufdModel, State

ROOT = "root"
Facts: TypeAlias = Mapping[str, object]
Rule: TypeAlias = Callable[..., Facts | None]
RULES: dict[str, Rule] = {}
CITED: dict[str, tuple[str, ...]] = {}
NOTHING: Facts = {}


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


class Denied(Exception):
    """The kernel refuses a step, which may have had effects before.

    Args:
        errno: its errno.
        facts: what it says all the same.
    """

    def __init__(self, errno: int, facts: Facts = NOTHING) -> None:
        super().__init__(name_of(errno))
        self.errno = errno
        self.facts = facts


def deny_if(condition: object, errno: int, facts: Facts = NOTHING) -> None:
    """Refuse the step with an errno if the condition is true.

    Args:
        condition: whether the kernel refuses.
        errno: what it answers then.
        facts: what it says all the same.

    Raises:
        Denied: the condition is true.
    """
    if condition:
        raise Denied(errno, facts)


class Blocks(Exception):
    """The kernel waits for other users in a step before it answers (B15, B20, B21)."""


class KnownBug(Blocks):
    """A step after which the kernel is known to be broken, see docs/findings.md."""


def rule(*claims: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the step of its name, resting on claims."""

    def register(function: Rule) -> Rule:
        RULES[function.__name__] = function
        CITED[function.__name__] = claims
        return function

    return register


def take(state: State, step: Step) -> tuple[Result, State]:
    """Return what the kernel answers to a step, and the state after it."""
    following = replace(
        state,
        functions={role: copy(each) for role, each in state.functions.items()},
        files={number: copy(each) for number, each in state.files.items()},
        descriptors=dict(state.descriptors),
        log=(),
        parameters=dict(state.parameters),
    )
    try:
        facts = RULES[step.call](following, step.user, **step.given) or NOTHING
        result = Result(0, facts)
    except Denied as denied:
        result = Result(denied.errno, denied.facts)
    return result, following


def collect(state: State) -> None:
    """Release the files that nobody holds any more, as the kernel does at the last close."""
    while loose := [number for number in state.files if not _held(state, number)]:
        for number in loose:
            file = state.files.pop(number)
            if isinstance(file, GroupModel):
                detach(state, file)
            if isinstance(file, DeviceModel) and not state.opens(file.role):
                it = state.functions[file.role]
                it.iommufd, it.marked = None, it.marked and not file.usable  # F56


def detach(state: State, group: GroupModel) -> None:
    """Take a group from its container, which loses its type with its last group (E19)."""
    container, group.container = state.files.get(group.container or 0), None
    if isinstance(container, ContainerModel):
        number = next(key for key, file in state.files.items() if file is container)
        if not state.attached(number):
            container.type, container.maps = 0, frozenset()


def _held(state: State, number: int) -> bool:
    if any(named == number for _, named in state.descriptors.values()):
        return True
    match state.files[number]:
        case GroupModel() as file:  # by devices that were opened through a container (E16)
            return container_users(state, file) > 0
        case ContainerModel():
            return bool(state.attached(number))
        case IommufdModel():
            bound = any(each.iommufd == number for each in state.functions.values())
            return bound or bool(state.attached(number))
        case _:
            return False


def container_users(state: State, group: GroupModel) -> int:
    """Return how many devices of a group are open and use its container."""
    devices = [file for each in state.members(group.group) for file in state.devices(each.role)]
    return 0 if group.gone else sum(not each.cdev and each.iommufd is None for each in devices)
