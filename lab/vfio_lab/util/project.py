"""The current project: a folder whose pyproject.toml has a table `[tool.vfio-lab]`.

Commands run the project's scenarios and keep evidence below its folder. Its extensions add to the
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
    """A user's project, or the lab's checkout.

    Args:
        root: the folder with its pyproject.toml.
        scenarios: the folder with its scenarios.
        extensions: packages that add to the lab, importable from `root`.
    """

    root: Path
    scenarios: Path
    extensions: tuple[str, ...]

    @property
    def is_the_lab(self) -> bool:
        """Whether this is the lab's own checkout."""
        return self.root == resources.root()


def current_project() -> Project | None:
    """Return the project of the current folder, None outside of a project.

    In a pytest run the rootdir counts as the current folder. The environment variable
    VFIO_LAB_PROJECT names a folder to use instead of the current one.

    Raises:
        UsageError: the project's table is invalid.
    """
    return find_project(_entered[-1] if _entered else Path(os.environ.get(VARIABLE) or Path.cwd()))


@contextlib.contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    """Treat a folder as the current one while the body runs."""
    _entered.append(folder)
    try:
        yield
    finally:
        _entered.remove(folder)


def find_project(start: Path) -> Project | None:
    """Return the project that a folder belongs to: the folder itself or its nearest parent.

    Raises:
        UsageError: the project's table is invalid.
    """
    start = start.resolve()
    found = (_read(folder) for folder in (start, *start.parents))
    return next((project for project in found if project is not None), None)


def once_a_project(make: Callable[[], T]) -> Callable[[], T]:
    """Cache the result of a function separately for each project."""
    kept: dict[Project | None, T] = {}

    @functools.wraps(make)
    def remembered() -> T:
        project = current_project()
        if project not in kept:
            kept[project] = make()
        return kept[project]

    return remembered


def evidence_folder() -> Path:
    """Return the folder for evidence: in the project, or else in the user's state folder."""
    project = current_project()
    if project is None:
        return platformdirs.user_state_path("vfio-lab", appauthor=False) / "evidence"
    return project.root / EVIDENCE


@functools.cache
def _read(folder: Path) -> Project | None:
    path = folder / resources.CONFIGURATION
    if folder == resources.PACKAGE or not path.is_file():
        return None  # the package folder of a wheel is not a project: nothing is written there
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
        and all(isinstance(name, str) for name in extensions)
        and isinstance(scenarios, str)
        and set(table) <= KEYS
    )
    if not understood:
        raise UsageError(
            f"the table [tool.{TABLE}] of {folder / resources.CONFIGURATION} is invalid",
            expected="no keys but `extensions = [package, ...]` and `scenarios = folder`",
            seen=str(table),
            hint="docs/project.md describes it",
        )
    return Project(folder, folder / str(scenarios), tuple(extensions or ()))
