"""What went into the key of a cache entry, compared with another entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vfio_lab.util.cache import Cache

WIDTH = 72


def explain(cache: Cache, kind: str, key: str) -> Iterator[str]:
    """Yield lines with an entry's inputs, then those that differ in the entry most like it.

    Args:
        cache: the cache.
        kind: the kind of the entry.
        key: the key of the entry.
    """
    yield f"{kind} {key}"
    mine = flat(cache.inputs(kind, key))
    if not mine:
        yield "  what it was made of was not recorded"
        return
    yield from (f"  {name} = {_short(value)}" for name, value in mine.items())
    others = {other: flat(cache.inputs(kind, other)) for other in cache.keys(kind) if other != key}
    distances = {other: differences(mine, its) for other, its in others.items() if its}
    if not distances:
        yield "no other entry to compare it with"
        return
    nearest = min(distances, key=lambda other: len(distances[other]))
    yield f"{nearest} is most like it; it has"
    for name in distances[nearest]:
        yield f"  {name} = {_short(others[nearest].get(name, 'nothing'))}"


def differences(mine: Mapping[str, str], its: Mapping[str, str]) -> list[str]:
    """Return the names whose values differ."""
    return [name for name in {**mine, **its} if mine.get(name) != its.get(name)]


def flat(value: object, name: str = "") -> dict[str, str]:
    """Return the leaves of a JSON value by dotted names."""
    if isinstance(value, Mapping):
        pairs = [(f"{name}.{key}".lstrip("."), one) for key, one in value.items()]
    elif isinstance(value, list):
        pairs = [(f"{name}[{index}]", one) for index, one in enumerate(value)]
    else:
        return {name: str(value)}
    return {leaf: text for key, one in pairs for leaf, text in flat(one, key).items()}


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."
