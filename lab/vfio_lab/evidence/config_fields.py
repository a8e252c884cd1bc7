"""Configuration space by the kernel's names for its registers.

Source: include/uapi/linux/pci_regs.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEADER_BYTES, CONVENTIONAL_BYTES = 0x40, 0x100
CAPABILITY_LIST = 0x34
Fields = tuple[tuple[int, str, int], ...]  # from which byte on, the name, how many bytes
HEADER: Fields = (
    (0x00, "PCI_VENDOR_ID", 2),
    (0x02, "PCI_DEVICE_ID", 2),
    (0x04, "PCI_COMMAND", 2),
    (0x06, "PCI_STATUS", 2),
    (0x08, "PCI_REVISION_ID", 1),
    (0x09, "PCI_CLASS_PROG", 1),
    (0x0A, "PCI_CLASS_DEVICE", 2),
    (0x0C, "PCI_CACHE_LINE_SIZE", 1),
    (0x0D, "PCI_LATENCY_TIMER", 1),
    (0x0E, "PCI_HEADER_TYPE", 1),
    (0x0F, "PCI_BIST", 1),
    *((0x10 + 4 * bar, f"PCI_BASE_ADDRESS_{bar}", 4) for bar in range(6)),
    (0x28, "PCI_CARDBUS_CIS", 4),
    (0x2C, "PCI_SUBSYSTEM_VENDOR_ID", 2),
    (0x2E, "PCI_SUBSYSTEM_ID", 2),
    (0x30, "PCI_ROM_ADDRESS", 4),
    (0x34, "PCI_CAPABILITY_LIST", 1),
    (0x3C, "PCI_INTERRUPT_LINE", 1),
    (0x3D, "PCI_INTERRUPT_PIN", 1),
    (0x3E, "PCI_MIN_GNT", 1),
    (0x3F, "PCI_MAX_LAT", 1),
)
CAPABILITIES: dict[int, tuple[str, Fields]] = {
    0x01: ("PM", ((2, "PMC", 2), (4, "CTRL", 2))),
    0x03: ("VPD", ((2, "ADDR", 2), (4, "DATA", 4))),
    0x05: ("MSI", ((2, "FLAGS", 2), (4, "ADDRESS_LO", 4), (8, "ADDRESS_HI", 4), (12, "DATA", 2))),
    0x07: ("PCIX", ((2, "CMD", 2), (4, "STATUS", 4))),
    0x09: ("VNDR", ()),
    0x10: (
        "EXP",
        (
            (2, "FLAGS", 2),
            (4, "DEVCAP", 4),
            (8, "DEVCTL", 2),
            (10, "DEVSTA", 2),
            (12, "LNKCAP", 4),
            (16, "LNKCTL", 2),
            (18, "LNKSTA", 2),
            (20, "SLTCAP", 4),
            (24, "SLTCTL", 2),
            (26, "SLTSTA", 2),
            (36, "DEVCAP2", 4),
            (40, "DEVCTL2", 2),
            (44, "LNKCAP2", 4),
            (48, "LNKCTL2", 2),
            (50, "LNKSTA2", 2),
        ),
    ),
    0x11: ("MSIX", ((2, "FLAGS", 2), (4, "TABLE", 4), (8, "PBA", 4))),
    0x13: ("AF", ((3, "CAP", 1), (4, "CTRL", 1), (5, "STATUS", 1))),
}
EXTENDED: dict[int, tuple[str, Fields]] = {
    0x01: (
        "ERR",
        (
            (4, "UNCOR_STATUS", 4),
            (8, "UNCOR_MASK", 4),
            (12, "UNCOR_SEVER", 4),
            (16, "COR_STATUS", 4),
            (20, "COR_MASK", 4),
            (24, "CAP", 4),
        ),
    ),
    0x03: ("DSN", ((4, "SERIAL", 8),)),
    0x0D: ("ACS", ((4, "CAP", 2), (6, "CTRL", 2))),
    0x0E: ("ARI", ((4, "CAP", 2), (6, "CTRL", 2))),
    0x0F: ("ATS", ((4, "CAP", 2), (6, "CTRL", 2))),
    0x10: (
        "SRIOV",
        (
            (0x04, "CAP", 4),
            (0x08, "CTRL", 2),
            (0x0A, "STATUS", 2),
            (0x0C, "INITIAL_VF", 2),
            (0x0E, "TOTAL_VF", 2),
            (0x10, "NUM_VF", 2),
            (0x12, "FUNC_LINK", 1),
            (0x14, "VF_OFFSET", 2),
            (0x16, "VF_STRIDE", 2),
            (0x1A, "VF_DID", 2),
            (0x1C, "SUP_PGSIZE", 4),
            (0x20, "SYS_PGSIZE", 4),
            *((0x24 + 4 * bar, f"BAR_{bar}", 4) for bar in range(6)),
        ),
    ),
    0x13: ("PRI", ((4, "CTRL", 2), (6, "STATUS", 2), (8, "MAX_REQ", 4), (12, "ALLOC_REQ", 4))),
    0x1B: ("PASID", ((4, "CAP", 2), (6, "CTRL", 2))),
}


@dataclass(frozen=True)
class ConfigField:
    """A register of configuration space.

    Args:
        name: the kernel's, such as `PCI_PM_CTRL`; with an offset where it has none.
        start: its first byte.
        size: how many bytes it has.
    """

    name: str
    start: int
    size: int


def config_fields(data: bytes) -> list[ConfigField]:
    """Return the registers in a copy of configuration space, from its beginning on."""
    header = [ConfigField(name, start, size) for start, name, size in HEADER]
    return [*header, *_conventional(data), *_extended(data)]


def field_at(fields: list[ConfigField], at: int) -> ConfigField:
    """Return the register that a byte belongs to: the last that begins before it."""
    behind = [one for one in fields if one.start <= at < one.start + one.size]
    if behind:
        return behind[-1]
    before = [one for one in fields if one.start <= at and one.size == 0]
    if not before:
        return ConfigField(f"config+{at:#x}", at, 1)
    nearest = max(before, key=lambda one: one.start)
    return ConfigField(f"{nearest.name}+{at - nearest.start:#x}", at, 1)


def differing_fields(before: bytes, after: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield the registers that differ between two copies: a name, and both values in hex."""
    fields = config_fields(before)
    told: set[str] = set()
    for at in range(min(len(before), len(after))):
        if before[at] != after[at]:
            field = field_at(fields, at)
            if field.name not in told:
                told.add(field.name)
                part = slice(field.start, field.start + field.size)
                yield field.name, _number(before[part]), _number(after[part])


def _number(data: bytes) -> str:
    return f"0x{int.from_bytes(data, 'little'):0{2 * len(data)}x}"


def _conventional(data: bytes) -> Iterator[ConfigField]:
    seen: set[int] = set()
    at = data[CAPABILITY_LIST] & 0xFC if len(data) > CAPABILITY_LIST else 0
    while HEADER_BYTES <= at <= min(len(data), CONVENTIONAL_BYTES) - 2 and at not in seen:
        seen.add(at)
        name, fields = CAPABILITIES.get(data[at], (f"CAP_{data[at]:02X}", ()))
        yield from _capability(f"PCI_{name}", at, fields, 2)
        at = data[at + 1] & 0xFC


def _extended(data: bytes) -> Iterator[ConfigField]:
    seen: set[int] = set()
    at = CONVENTIONAL_BYTES
    while CONVENTIONAL_BYTES <= at <= len(data) - 4 and at not in seen:
        seen.add(at)
        (head,) = struct.unpack_from("<I", data, at)
        kind = head & 0xFFFF
        name, fields = EXTENDED.get(kind, (f"EXT_CAP_{kind:02X}", ()))
        if head:
            yield from _capability(f"PCI_{name}", at, fields, 4)
        at = head >> 20 & 0xFFC


def _capability(name: str, at: int, fields: Fields, head: int) -> Iterator[ConfigField]:
    yield ConfigField(name, at, 0)  # what has no name of its own is told from here
    yield ConfigField(f"{name}_HEADER", at, head)
    for start, field, size in fields:
        yield ConfigField(f"{name}_{field}", at + start, size)
