"""The project that people stand in: a folder whose pyproject.toml has a table `[tool.vfio-lab]`.

Its scenarios are what commands run, its evidence is kept below it, and its extensions join the
lab's own topologies, claims, kernels and images (see `vfio_lab.util.extensions`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from vfio_lab.errors import UsageError
from vfio_lab.util import resources

T = TypeVar("T")
VARIABLE = "VFIO_LAB_PROJECT"
TABLE = "vfio-lab"
KEYS = frozenset({"extensions", "scenarios"})
EVIDENCE = ".artifacts"
_entered: list[Path] = []


@dataclass(frozen=True)
class Project:
    """A project of people's own, or the lab's checkout.

    Args:
        root: the folder of its pyproject.toml.
        scenarios: the folder of its scenarios.
        extensions: packages that add to the lab, importable from `root`.
    """

    root: Path
    scenarios: Path
    extensions: tuple[str, ...]

    @property
    def is_the_lab(self) -> bool:
        """Whether it is the lab itself."""
        return self.root == resources.root()


def current_project() -> Project | None:
    """Return the project of the folder that people stand in, None outside of any.

    A pytest run stands in its rootdir. The environment variable VFIO_LAB_PROJECT names a folder to
    stand in instead of the current one.

    Raises:
        UsageError: the project's table cannot be understood.
    """
    return find_project(_entered[-1] if _entered else Path(os.environ.get(VARIABLE) or Path.cwd()))


@contextlib.contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    """Stand in a folder for a while, whatever the current one is."""
    _entered.append(folder)
    try:
        yield
    finally:
        _entered.remove(folder)


def find_project(start: Path) -> Project | None:
    """Return the project that a folder belongs to: its own, or that of the nearest one above.

    Raises:
        UsageError: the project's table cannot be understood.
    """
    start = start.resolve()
    found = (_read(folder) for folder in (start, *start.parents))
    return next((one for one in found if one is not None), None)


def once_a_project(make: Callable[[], T]) -> Callable[[], T]:
    """Remember what a function returns for each project."""
    kept: dict[Project | None, T] = {}

    @functools.wraps(make)
    def remembered() -> T:
        project = current_project()
        if project not in kept:
            kept[project] = make()
        return kept[project]

    return remembered


def evidence_folder() -> Path:
    """Return where evidence is kept: below the project, outside of any in the state folder."""
    project = current_project()
    if project is None:
        return platformdirs.user_state_path("vfio-lab", appauthor=False) / "evidence"
    return project.root / EVIDENCE


@functools.cache
def _read(folder: Path) -> Project | None:
    path = folder / resources.CONFIGURATION
    if folder == resources.PACKAGE or not path.is_file():
        return None  # what a wheel carries is no project: nothing is written there
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get(TABLE)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read", seen=str(error)) from error
    return None if table is None else _project(folder, table)


def _project(folder: Path, table: Any) -> Project:
    extensions = table.get("extensions", []) if isinstance(table, dict) else None
    scenarios = table.get("scenarios", "scenarios") if isinstance(table, dict) else None
    understood = (
        isinstance(extensions, list)
        and all(isinstance(one, str) for one in extensions)
        and isinstance(scenarios, str)
        and set(table) <= KEYS
    )
    if not understood:
        raise UsageError(
            f"the table [tool.{TABLE}] of {folder / resources.CONFIGURATION} is not understood",
            expected="extensions = [package, ...] and scenarios = folder, or neither",
            seen=str(table),
            hint="docs/project.md describes it",
        )
    return Project(folder, folder / str(scenarios), tuple(extensions or ()))
