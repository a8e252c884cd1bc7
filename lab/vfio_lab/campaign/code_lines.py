"""Which lines of the sources the code of a kernel has, by its debugging information."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from elftools.dwarf.lineprogram import LineProgram
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from vfio_lab.campaign.translated import KERNEL
from vfio_lab.errors import BuildError
from vfio_lab.util.process import pipeline

INIT = 0x40000000  # where sections go that a module loses after its start

Line = tuple[str, int]


@dataclass
class Code:
    """The lines of an image's or a module's code, by address.

    Args:
        size: the size of a module's code in bytes, 0 for the kernel's image.
        starts: the addresses at which lines begin, sorted.
        lines: the lines that begin at each of them; none where code without lines begins.
        blocks: the lines of blocks that were looked up.
    """

    size: int
    starts: list[int]
    lines: list[tuple[Line, ...]]
    blocks: dict[tuple[int, int], tuple[Line, ...]] = field(default_factory=dict)

    def block(self, start: int, size: int) -> tuple[Line, ...]:
        """Return the lines of a block.

        Args:
            start: its address.
            size: its size in bytes.
        """
        key = start, size
        if key not in self.blocks:
            first = bisect.bisect_right(self.starts, start)
            last = bisect.bisect_left(self.starts, start + size)
            # The block may begin within the last line before it.
            found = self.lines[first - 1][-1:] if first else ()
            at = first - 1 if first and self.starts[first - 1] == start else first
            inside = itertools.chain.from_iterable(self.lines[at:last])
            self.blocks[key] = tuple(dict.fromkeys((*found, *inside)))
        return self.blocks[key]


def read_image(path: Path) -> Code:
    """Return the lines of a kernel's image, by addresses as in the plugin's files."""
    with path.open("rb") as file:
        return _code(ELFFile(file), 0, KERNEL)


def read_module(path: Path, scratch: Path) -> Code:
    """Return the lines of a module, by addresses relative to that of the module.

    Args:
        path: the module.
        scratch: a folder to work in.

    Raises:
        BuildError: it cannot be linked.
    """
    with path.open("rb") as file:
        layout, size = _layout(ELFFile(file).iter_sections())
    # All sections of a module begin at 0; linked, each has addresses of its own.
    script, linked = scratch / "script", scratch / "linked"
    places = "\n".join(f"{name} {at:#x} : {{ *({name}) }}" for name, at in layout.items())
    script.write_text(f"SECTIONS {{\n{places}\n}}\n")
    options = ("--unresolved-symbols=ignore-all", "--noinhibit-exec", "--no-warnings", "-T")
    command = ["ld", *options, os.fspath(script), "-o", os.fspath(linked), os.fspath(path)]
    pipeline(f"link {path.name}", command, log=scratch / "ld.log")
    with linked.open("rb") as file:
        return _code(ELFFile(file), size, 0)


def _layout(sections: Iterable[Section]) -> tuple[dict[str, int], int]:
    """Return the addresses of a module's code as its loader chooses them, and the code's size.

    Source: kernel/module/main.c, __layout_sections
    """
    found, end, init = {}, 0, INIT
    for section in sections:
        if not section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:
            continue
        align = max(section["sh_addralign"], 1)
        if section.name.startswith(".init"):
            init += -init % align
            found[section.name], init = init, init + section["sh_size"]
        else:
            end += -end % align
            found[section.name], end = end, end + section["sh_size"]
    return found, end


def _code(elf: ELFFile, size: int, base: int) -> Code:
    found: dict[int, list[Line]] = {}
    names: dict[Line, Line] = {}
    for address, line in _rows(elf, linked=bool(base)):
        here = found.setdefault(address - base, [])
        if line is not None:
            here.append(names.setdefault(line, line))
    starts = sorted(found)
    return Code(size, starts, [tuple(found[start]) for start in starts])


def _rows(elf: ELFFile, *, linked: bool) -> Iterator[tuple[int, Line | None]]:
    """Yield the addresses at which lines begin; without a line where a sequence ends.

    Args:
        elf: the program.
        linked: whether code at address 0 is code that the linker has left out.
    """
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        files = _files(program)
        for entry in program.get_entries():
            state = entry.state
            if state is not None and (state.address or not linked):
                ends = state.end_sequence or not state.line
                yield state.address, None if ends else (files[state.file], state.line)


def _files(program: LineProgram) -> list[str]:
    """Return the paths in the tree of the files that a unit's lines are of."""
    folders = [os.fsdecode(one) for one in program["include_directory"]]
    paths = []
    for one in program["file_entry"]:
        folder = folders[one.dir_index] if one.dir_index < len(folders) else ""
        path = os.path.normpath(Path(folder, os.fsdecode(one.name)))
        paths.append(path.removeprefix("../"))
    return paths


def find_vmlinux(out: Path) -> Path:
    """Return the kernel's image with debugging information, as the build left it.

    Raises:
        BuildError: there is none.
    """
    for name in ("vmlinux.unstripped", "vmlinux"):
        if (out / name).exists():
            return out / name
    raise BuildError(f"{out} holds no kernel", expected="vmlinux")
