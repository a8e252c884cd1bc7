"""Extensions of the lab: topologies, claims, kernels, images and device drivers.

An extension is a package. A project lists its extensions in `[tool.vfio-lab]`; an installed
distribution lists its package in the entry point group `vfio_lab`. The lab reads these files of it:

    topologies.py      TOPOLOGIES, the topologies
    drivers.py         NICS, the driver classes by PCI device ID
    spec/*.toml        claims, areas, threads and changes
    images/            rootfs.toml, kernels.toml and the files they refer to
    faults/KERNEL/     patches for `vfio-lab mutate`
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vfio_lab.errors import UsageError
from vfio_lab.util.project import Project, current_project, once_a_project
from vfio_lab.util.registry import Registry

T = TypeVar("T")
GROUP = "vfio_lab"


@dataclass(frozen=True)
class Extension:
    """A package that adds to the lab.

    Args:
        package: the package's name.
        folder: the package's folder.
    """

    package: str
    folder: Path

    def value(self, module: str, name: str, default: T) -> T:
        """Return a value from a module of the package.

        Args:
            module: the module's name, without the package's.
            name: the value's name.
            default: the result if there is no such module.

        Raises:
            UsageError: the module has no value of that name.
        """
        if not (self.folder / f"{module}.py").is_file():
            return default
        found = _imported(self.folder / f"{module}.py", f"{self.package}.{module}")
        if not hasattr(found, name):
            raise UsageError(
                f"an extension's module lacks {name}",
                seen=f"{self.folder / module}.py",
                hint="docs/project.md shows what it must define",
            )
        made: T = getattr(found, name)
        return made


@once_a_project
def load_extensions() -> tuple[Extension, ...]:
    """Return the extensions: the project's, then the installed ones.

    Raises:
        UsageError: a package listed as an extension cannot be imported.
    """
    project = current_project()
    if project is not None:
        make_importable(project)
    return tuple(_extension(package, by) for package, by in extension_packages().items())


def extension_packages() -> dict[str, str]:
    """Return the packages of all extensions, each with the place that lists it."""
    project = current_project()
    named: dict[str, str] = {}
    if project is not None:
        named = dict.fromkeys(project.extensions, f"[tool.vfio-lab] of {project.root}")
    for point in importlib.metadata.entry_points(group=GROUP):
        named.setdefault(point.value, f"the entry point {point.name} of an installed package")
    return named


def make_importable(project: Project) -> None:
    """Let the project's extensions be imported, by conftests and scenarios too."""
    if project.extensions and str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))


def join(what: str, parts: Iterable[tuple[object, Mapping[str, T]]]) -> Registry[T]:
    """Merge the values of several places into one mapping.

    Args:
        what: the noun for a value, for errors.
        parts: pairs of a place and its values by name.

    Raises:
        UsageError: two places define the same name.
    """
    found: dict[str, T] = {}
    places: dict[str, object] = {}
    for place, values in parts:
        for name, value in values.items():
            if name in found:
                raise UsageError(
                    f"{what} {name} is defined twice",
                    seen=f"{places[name]} and {place}",
                    hint="rename one of them: names must be unique",
                )
            found[name], places[name] = value, place
    return Registry(what, found)


def _imported(path: Path, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UsageError(f"{path} cannot be imported", seen=repr(error)) from error


def _extension(package: str, named_by: str) -> Extension:
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places:
        raise UsageError(
            f"cannot import the extension {package}",
            seen=f"no package of that name; it is listed by {named_by}",
            hint="an extension is a folder with __init__.py; docs/project.md describes it",
        )
    return Extension(package, Path(places[0]))
