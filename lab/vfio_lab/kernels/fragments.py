"""The options that all kernels of an architecture are asked for, from images/config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfio_lab.arch import ARCHITECTURES, X86_64, Architecture
from vfio_lab.errors import UsageError
from vfio_lab.kernels import kconfig

PLAIN = "plain"
CATALOGUE = "kernels.toml"


@dataclass(frozen=True)
class Flavour:
    """A flavour that kernels are built in.

    Args:
        about: its purpose, empty for the plain one.
        options: further options.
        drivers: the sources of drivers of the lab's own, which are built with the samples.
    """

    about: str = ""
    options: tuple[kconfig.Option, ...] = ()
    drivers: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Common:
    """What the kernels of an architecture have in common.

    Args:
        architecture: the architecture.
        options: the options of every kernel.
        only: the flavours that are built besides the plain one, None for all.
    """

    architecture: Architecture
    options: tuple[kconfig.Option, ...]
    only: Sequence[str] | None

    def flavours(self, known: Iterable[str]) -> list[str]:
        """Return the flavours that are built."""
        return [one for one in known if self.only is None or one in (PLAIN, *self.only)]

    def name(self, series: str, flavour: str) -> str:
        """Return `7.3`, `7.3:debug`, or `7.3:arm64`."""
        parts = [series] + [flavour] * (flavour != PLAIN)
        return ":".join(parts + [self.architecture.debian] * (self.architecture != X86_64))


def common_options(folder: Path, data: Mapping[str, Any]) -> list[Common]:
    """Return what the kernels of each architecture have in common.

    Args:
        folder: the folder with the catalogue of kernels.
        data: the content of the catalogue.
    """
    given = data.get("architectures", {X86_64.name: {}})
    return [
        Common(
            ARCHITECTURES[name],
            tuple(
                option
                for fragment in (*data["fragments"], *entry.get("fragments", ()))
                for option in read_named(folder, fragment)
            ),
            entry.get("flavours"),
        )
        for name, entry in given.items()
    ]


def read_flavours(folder: Path, table: Mapping[str, Any]) -> dict[str, Flavour]:
    """Return the flavours of a catalogue.

    Args:
        folder: the folder with the catalogue of kernels.
        table: the content of the catalogue.

    Raises:
        UsageError: there is no such fragment or driver.
    """
    return {
        name: Flavour(
            entry["about"],
            tuple(
                option
                for fragment in entry["fragment"].split()
                for option in read_named(folder, fragment)
            ),
            tuple(_driver(folder, driver) for driver in entry.get("drivers", "").split()),
        )
        for name, entry in table.get("flavours", {}).items()
    }


def _driver(folder: Path, name: str) -> Path:
    path = folder / "drivers" / f"{name}.c"
    if not path.is_file():
        raise UsageError(
            f"there is no driver {name!r}",
            expected=f"a file {path}",
            seen=f"named by {folder / CATALOGUE}",
        )
    return path


def read_named(folder: Path, name: str) -> tuple[kconfig.Option, ...]:
    """Return the options of a fragment below `folder`/config.

    Raises:
        UsageError: there is no such fragment.
    """
    path = folder / "config" / f"{name}.config"
    if not path.is_file():
        raise UsageError(
            f"there is no configuration fragment {name!r}",
            expected=f"a file {path}",
            seen=f"named by {folder / CATALOGUE}",
        )
    return kconfig.parse(path.read_text(), path.name)
