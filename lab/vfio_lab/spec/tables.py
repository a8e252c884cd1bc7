"""The TOML tables of areas, threads, changes and claims, from the lab and from extensions."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vfio_lab.errors import UsageError
from vfio_lab.util.extensions import join, load_extensions
from vfio_lab.util.registry import Registry

T = TypeVar("T")
DATA = Path(__file__).parent / "data"
FOLDER = "spec"


def read_table(kind: str, key: str, make: Callable[[Mapping[str, Any]], T]) -> Registry[T]:
    """Return the entries of a kind from all files.

    Args:
        kind: the tables' header: `area`, `thread`, `change` or `claim`.
        key: the field that holds an entry's name.
        make: creates the value from an entry.

    Raises:
        UsageError: a file is invalid, or two entries have one name.
    """
    return join(kind, _values(kind, key, make))


def _values(
    kind: str, key: str, make: Callable[[Mapping[str, Any]], T]
) -> Iterator[tuple[Path, dict[str, T]]]:
    folders = [DATA, *(extension.folder / FOLDER for extension in load_extensions())]
    for path in (path for folder in folders for path in sorted(folder.glob("*.toml"))):
        for entry in _read(path).get(kind, ()):
            try:
                yield path, {str(entry[key]): make(entry)}
            except (KeyError, TypeError, ValueError) as error:
                raise UsageError(
                    f"a [[{kind}]] of {path} is invalid",
                    seen=f"{entry}: {error!r}",
                    hint=f"see {DATA} for valid entries",
                ) from error


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML", seen=str(error)) from error
