"""What rules are made of: how the kernel refuses, and what it releases at a last close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from vfio_lab.client.call import name_of
from vfio_lab.model.state import ContainerModel, DeviceModel, GroupModel, IommufdModel, State

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


def deny_if(condition: object, errno: int, facts: Facts | None = None) -> None:
    """Refuse the step if the condition is true.

    Args:
        condition: whether the kernel refuses.
        errno: what it answers then.
        facts: what it says all the same.
    """
    if condition:
        raise Denied(errno, facts)


def rule(*claims: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the step of its name, resting on claims."""

    def register(function: Rule) -> Rule:
        RULES[function.__name__] = function
        CITED[function.__name__] = claims
        return function

    return register


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
    number, group.container = group.container or 0, None
    container = state.files.get(number)
    if isinstance(container, ContainerModel) and not state.attached(number):
        container.type, container.maps = 0, frozenset()


def _held(state: State, number: int) -> bool:
    if any(named == number for _, named in state.descriptors.values()):
        return True
    match state.files[number]:
        case GroupModel() as file:
            return container_users(state, file) > 0  # E16
        case ContainerModel():
            return bool(state.attached(number))
        case IommufdModel():
            bound = any(each.iommufd == number for each in state.functions.values())
            return bound or bool(state.attached(number))
        case _:
            return False


def container_users(state: State, group: GroupModel) -> int:
    """Return how many devices of a group are open and use its container."""
    devices = [] if group.gone else state.opened_in(group.group)
    return sum(not each.cdev and each.iommufd is None for each in devices)
