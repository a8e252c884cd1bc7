"""A mapping that answers an unknown name with a `UsageError`."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from typing import TypeVar

from vfio_lab.errors import UsageError

T = TypeVar("T")
FEW = 24
GUESSES = 3
ALIKE = 0.6


class Registry(Mapping[str, T]):
    """Values by name.

    Args:
        what: the noun for a value, for the error.
        values: the values.
    """

    def __init__(self, what: str, values: Mapping[str, T]) -> None:
        """Keep `values` in their order."""
        self._what = what
        self._values = dict(values)

    def __getitem__(self, key: str) -> T:
        """Return the value of that name.

        Raises:
            UsageError: there is none; suggests similar names, or the known ones.
        """
        if key in self._values:
            return self._values[key]
        raise UsageError(
            f"there is no {self._what} {key}",
            expected=f"one of {len(self._values)}",
            hint=self._guess(key),
        )

    def get(  # type: ignore[override]  # Mapping.get takes defaults of any type; no caller does
        self, key: str, default: T | None = None
    ) -> T | None:
        """Return the value of that name, or the default; Mapping.get expects a KeyError."""
        return self._values.get(key, default)

    def __contains__(self, key: object) -> bool:
        """Whether there is a value of that name."""
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        """Return the names in order."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._values)

    def _guess(self, wrong: str) -> str:
        close = [name for name in self._values if _likeness(wrong, name)[0] >= ALIKE]
        if close:
            close.sort(key=lambda name: _likeness(wrong, name), reverse=True)
            return f"did you mean {' or '.join(close[:GUESSES])}?"
        few = list(self._values)
        shown = few if len(few) <= FEW else [few[0], "...", few[-1]]
        return f"known are {', '.join(shown)}"


def _likeness(wrong: str, name: str) -> tuple[float, int]:
    """Return how similar two names are, and the length of their common prefix for ties."""
    left, right = wrong.casefold(), name.casefold()
    prefix = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return difflib.SequenceMatcher(None, left, right).ratio(), len(list(prefix))
