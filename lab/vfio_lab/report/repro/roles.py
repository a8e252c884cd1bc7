"""Which PCI function, group and character device a record means, by the role it plays."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfio_lab.report.repro.recording import Call, Recording

ADDRESS = r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
NAMED = re.compile(
    rf"(?P<address>{ADDRESS})"
    r"|(?P<group>(?<=/dev/vfio/)\d+|(?<=/dev/vfio/noiommu-)\d+|(?<=iommu_groups/)\d+)"
    r"|(?P<slot>(?<=/pci/slots/)[^/]+)"
    r"|(?P<cdev>(?<=/dev/vfio/devices/)[a-z0-9-]+|(?<=vfio-dev/)[a-z0-9-]+)"
)
VIRTFN = re.compile(rf"/({ADDRESS})/virtfn(\d+)$")
OF_FUNCTION = re.compile(rf"/({ADDRESS})/(iommu_group|vfio-dev)$")
SLOT = re.compile(r"/pci/slots/([^/]+)/address$")
DRIVER = re.compile(rf"/({ADDRESS})/driver$")
SRIOV = re.compile(rf"/({ADDRESS})/sriov_")


@dataclass
class Roles:
    """The functions of a record, and what else is named after them.

    Args:
        functions: variable or call in C for each address.
        options: address and role of those that the program is told, and whether they need SR-IOV.
        groups: address of a function in each group, by the group's number.
        cdevs: address of the function of each character device, by its name.
        slots: address of a function in each slot, by the slot's name.
        drivers: the driver that the scenario found on a function, by the function's address.
    """

    functions: dict[str, str] = field(default_factory=dict)
    options: dict[str, tuple[str, bool]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    cdevs: dict[str, str] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    drivers: dict[str, str] = field(default_factory=dict)

    def follow(self, call: Call) -> None:
        """Take from an answer what a group, a character device or a slot is now called."""
        path = call.arguments.get("path", "")
        if (slot := SLOT.search(str(path))) and not call.errno:
            place = f"{call.answer['data'].strip()}."
            self.slots[slot[1]] = next((one for one in self.functions if one.startswith(place)), "")
        match = OF_FUNCTION.search(path) if isinstance(path, str) else None
        if match is None or call.errno:
            return
        if match[2] == "iommu_group" and "text" in call.answer:
            self.groups[call.answer["text"].rpartition("/")[2]] = match[1]
        for name in call.answer.get("names", ()) if match[2] == "vfio-dev" else ():
            self.cdevs[name] = match[1]

    def text(self, text: str) -> str:
        """Return a text as a C expression, with what is named after functions put in."""
        form, arguments, at = "", [], 0
        for match in NAMED.finditer(text):
            known = self._meant(match)
            if known is not None:
                form += _escaped(text[at : match.start()], percent=True) + "%s"
                arguments.append(known)
                at = match.end()
        if not arguments:
            return f'"{_escaped(text)}"'
        form += _escaped(text[at:], percent=True)
        if form == "%s":
            return arguments[0]
        return f'fmt("{form}", {", ".join(arguments)})'

    def mentions(self, text: str) -> bool:
        """Return whether a text has a name that differs from one machine to the next."""
        return NAMED.search(text) is not None

    def _meant(self, match: re.Match[str]) -> str | None:
        if match["address"]:
            return self.functions.get(match["address"])
        tables = {"group": self.groups, "cdev": self.cdevs, "slot": self.slots}
        kind = match.lastgroup or ""
        function = self.functions.get(tables[kind].get(match[0], ""))
        return f"{kind}_of({function})" if function else None


def find_roles(recording: Recording) -> Roles:
    """Return the roles of all functions that a record is about."""
    roles = Roles()
    vfs = _virtual_functions(recording)
    there = {one["bdf"] for one in recording.functions}
    there |= {name for call in recording.calls if not call.errno for name in _addresses_of(call)}
    named = [name for call in recording.calls for name in _addresses(call)]
    physical = {pf for pf, _ in vfs.values()}
    physical |= {found[1] for call in recording.calls if (found := SRIOV.search(_path(call)))}
    wanted = dict.fromkeys(
        vfs[name][0] if name in vfs else name for name in named if name in there or name in vfs
    )
    for address in wanted:
        kind = "pf" if address in physical else "dev"
        count = sum(role.rstrip("0123456789") == kind for role, _ in roles.options.values())
        role = f"{kind}{count or ''}"
        roles.options[address] = (role, kind == "pf")
        roles.functions[address] = role
    for address, (pf, number) in vfs.items():
        roles.functions[address] = f"vf({roles.functions.get(pf, 'pf')}, {number})"
    for call in itertools.takewhile(lambda one: one.name != "run", recording.calls):
        if match := DRIVER.search(_path(call)):
            roles.drivers.setdefault(match[1], call.answer.get("text", "").rpartition("/")[2])
    for one in recording.functions:
        if one["bdf"] in roles.functions:
            roles.groups.setdefault(one["iommu_group"], one["bdf"])
            roles.cdevs.setdefault(one["cdev"], one["bdf"])
    return roles


def _virtual_functions(recording: Recording) -> dict[str, tuple[str, int]]:
    """Return PF and number of each VF."""
    found: dict[str, tuple[str, int]] = {}
    for call in recording.calls:
        match = VIRTFN.search(_path(call))
        if match and "text" in call.answer:
            found[call.answer["text"].rpartition("/")[2]] = (match[1], int(match[2]))
    by_pf: dict[str, list[str]] = {}
    for one in recording.functions:
        if one["physfn"]:
            by_pf.setdefault(one["physfn"], []).append(one["bdf"])
    for pf, addresses in by_pf.items():
        for number, address in enumerate(sorted(addresses)):
            found.setdefault(address, (pf, number))
    return found


def _path(call: Call) -> str:
    path = call.arguments.get("path", call.arguments.get("pathname", ""))
    return path if isinstance(path, str) else ""


def _addresses_of(call: Call) -> Iterable[str]:
    return re.findall(ADDRESS, _path(call))


def _addresses(call: Call) -> Iterable[str]:
    return (name for text in _texts(call.arguments) for name in re.findall(ADDRESS, text))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)


def _escaped(text: str, *, percent: bool = False) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"} | (
        {"%": "%%"} if percent else {}
    )
    plain = "".join(escapes.get(letter, letter) for letter in text)
    return "".join(
        letter if letter.isascii() and letter.isprintable() else f"\\{ord(letter):03o}"
        for letter in plain
    )
