"""Which variable of a reproducer a number of the record stands for: descriptors, IDs, addresses."""

from __future__ import annotations

from dataclasses import dataclass, field

from vfio_lab.report.repro import names

ID_FIELDS = frozenset({"devid", "dev_id", "id"})


@dataclass
class Process:
    """A user's descriptors, mappings and objects, as variables of the program.

    Args:
        name: the user's name in the program.
        fds: variable by descriptor.
        ids: variable by the number of an iommufd's object.
        maps: variable by address, with the size in bytes.
        regions: variable of a region's offset by the offset, with the size in bytes.
    """

    name: str
    fds: dict[int, str] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    maps: dict[int, tuple[str, int]] = field(default_factory=dict)
    regions: dict[int, tuple[str, int]] = field(default_factory=dict)

    def forked(self, name: str) -> Process:
        """Return what a child has."""
        return Process(name, dict(self.fds), dict(self.ids), dict(self.maps), dict(self.regions))

    def fd(self, number: int) -> str:
        """Return a descriptor as an expression."""
        return self.fds.get(number, str(number))

    def id(self, number: int) -> str:
        """Return an object's ID as an expression."""
        return self.ids.get(number, names.number(number))

    def address(self, number: int) -> str | None:
        """Return an address inside a mapping as a pointer, None if it is in none."""
        return _within(self.maps, number, "(char *)")

    def offset(self, number: int) -> str:
        """Return an offset in a device's file as an expression."""
        return _within(self.regions, number, "") or names.number(number)


@dataclass
class Variables:
    """The variables of a program.

    Args:
        types: C type of each, in the order they were needed.
        used: those that are read.
    """

    types: dict[str, str] = field(default_factory=dict)

    def new(self, kind: str, stem: str) -> str:
        """Return the name of a new variable of a C type."""
        name, count = stem, 1
        while name in self.types:
            count += 1
            name = f"{stem}_{count}"
        self.types[name] = kind
        return name


def _within(table: dict[int, tuple[str, int]], number: int, cast: str) -> str | None:
    for start, (name, size) in reversed(table.items()):
        if start <= number < start + size:
            plus = f" + {names.number(number - start)}" if number != start else ""
            return f"{cast if plus else ''}{name}{plus}"
    return None
