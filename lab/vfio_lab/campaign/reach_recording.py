"""Makes the map of which scenarios run which lines, from one run under QEMU's translator."""

from __future__ import annotations

import collections
import datetime
import itertools
import re
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from vfio_lab.campaign import code_lines, translated
from vfio_lab.campaign.code_lines import Code, Line
from vfio_lab.campaign.reach import KnownFunction, ReachMap, union
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import BuildError
from vfio_lab.kernels import csource, kbuild, ktree
from vfio_lab.util.cache import Cache

# What the map is about.
FOLDERS = (PurePath("drivers/vfio"), PurePath("drivers/iommu"), PurePath("drivers/pci"))
FILES = (PurePath("drivers/base/dd.c"),)
DEBUG = "-gdwarf-5"
SYMBOLS = "System.map"
SOURCE = re.compile(r"^source_\S+ := \.\./(\S+\.c)$", re.MULTILINE)
HEADER = re.compile(r"^\s+\.\./(\S+\.h) \\$", re.MULTILINE)
PROGRAM = re.compile(r"([^:]+)::\w+\[(\w+)-.+\]", re.DOTALL)
ENDED = frozenset({Outcome.PASSED, Outcome.KNOWN})


@dataclass(frozen=True)
class KernelLines:
    """A kernel with debugging information, as the build left it.

    Args:
        image: the lines of its image.
        modules: those of its modules, by name.
    """

    image: Code
    modules: Mapping[str, Code]

    def lines(self, blocks: Iterable[tuple[int, int]], places: set[tuple[str, int]]) -> set[Line]:
        """Return the lines that a guest ran.

        Args:
            blocks: the blocks of code that it ran.
            places: the modules and their addresses.
        """
        known = [(at, self.modules[name]) for name, at in sorted(places) if name in self.modules]
        found: set[Line] = set()
        for start, size in blocks:
            found.update(self.image.block(start, size))
            for at, code in known:
                if at <= start < at + code.size:
                    found.update(code.block(start - at, size))
        return found


@contextmanager
def with_lines(name: str, cache: Cache) -> Iterator[kbuild.Bench]:
    """Yield the folder where a packaged kernel was compiled again, with debugging information.

    Raises:
        BuildError: it does not compile, or its code has other addresses than without.
    """
    tree = ktree.ensure_tree(name, cache)
    with ktree.branch(tree, f"{name}-lines", [ktree.WHOLE]) as bench:
        for folder in FOLDERS:
            for makefile in sorted((bench.tree / folder).rglob("Makefile")):
                _append(makefile, f"ccflags-y += {DEBUG}")
        for one in FILES:
            _append(bench.tree / one.parent / "Makefile", f"CFLAGS_{one.stem}.o += {DEBUG}")
        bench.compile()
        if (bench.out / SYMBOLS).read_bytes() != (tree.bench.out / SYMBOLS).read_bytes():
            raise BuildError(
                "cannot tell the lines of what guests ran",
                expected=f"the addresses of kernel {name} with debugging information too",
                seen=f"another {SYMBOLS} in {bench.out}",
            )
        yield bench


def _append(makefile: Path, line: str) -> None:
    text = makefile.read_text()
    makefile.unlink()  # a hard link to the tree's own
    makefile.write_text(f"{text}\n{line}\n")


def read_kernel_lines(out: Path) -> KernelLines:
    """Return the lines of a kernel.

    Args:
        out: the build folder.
    """
    modules = [path for folder in FOLDERS for path in sorted((out / folder).rglob("*.ko"))]
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as scratch:
        lines = {
            path.stem.replace("-", "_"): code_lines.read_module(path, Path(scratch))
            for path in modules
        }
        return KernelLines(code_lines.read_image(code_lines.find_vmlinux(out)), lines)


def make_reach(found: Results, folder: Path, out: Path, tree: Path) -> ReachMap:
    """Return the map of a run.

    Args:
        found: the results of the run, read from its folder.
        folder: the folder with what guests ran.
        out: the build folder of the kernel with debugging information.
        tree: the sources of the kernel.

    Raises:
        BuildError: no guest was seen to run anything.
    """
    kernel = read_kernel_lines(out)
    ended = sorted(
        (one for one in found.scenarios if one.outcome in ENDED), key=lambda one: one.nodeid
    )
    known = [(one, other) for one, other in _with_guests(ended) if _ran(other, folder)]
    guests = [other for _, other in known]
    topologies = sorted({one.topology for one in guests})
    code = _code_lines(kernel)
    ran = _ran_lines(found.kernel["name"], guests, topologies, folder, kernel)
    sets: collections.defaultdict[Line, int] = collections.defaultdict(int)
    effort = []
    for number, lines in enumerate(ran):
        effort.append(len(lines & code))
        for line in lines & code:
            sets[line] |= 1 << number
    if not sets:
        raise BuildError(
            "no guest was seen to run kernel code",
            expected=f"files in {folder}",
            seen=f"{len(found.scenarios)} scenarios",
            hint="QEMU's translator sees it only where guests run without KVM",
        )
    files = _files(tree, code, sets)
    return ReachMap(
        kernel=".".join(map(str, kbuild.version(tree))),
        made=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        names=tuple(one.nodeid for one, _ in known),
        templates=tuple(
            union(1 << number for number, one in enumerate(guests) if one.topology == name)
            for name in topologies
        ),
        effort=tuple(effort[: len(known)]),
        files=files,
        headers=_headers(out, files),
    )


def _ran_lines(
    name: str, known: Sequence[Record], topologies: Iterable[str], folder: Path, kernel: KernelLines
) -> Iterator[set[Line]]:
    """Yield the lines that each scenario ran, then those that each topology's templates ran."""
    booted: collections.defaultdict[str, set[tuple[str, int]]] = collections.defaultdict(set)
    for one in known:
        places = translated.read_modules(_evidence(one) / translated.MODULES)
        booted[one.topology] |= places
        yield kernel.lines(_blocks(_ran(one, folder)), places)
    for topology in topologies:
        templates = folder.glob(f"template-{topology}-{name}.*")
        yield kernel.lines(_blocks(templates), booted[topology])


def _with_guests(records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Yield scenarios, each with the one that had its guest.

    That is mostly itself. A program of selftests runs once, in the guest of one of its scenarios.
    """
    programs = {_program(one): one for one in records if one.evidence}
    for one in records:
        yield one, one if one.evidence else programs.get(_program(one), one)


def _program(record: Record) -> str:
    """Return the selftest program that a scenario is about, else its node ID."""
    found = PROGRAM.fullmatch(record.nodeid)
    return f"{found[1]} {found[2]}" if found else record.nodeid


def _evidence(record: Record) -> Path:
    assert record.run is not None  # it was read from there
    return record.run / record.evidence


def _ran(record: Record, folder: Path) -> list[Path]:
    """Return the files with what a scenario's guests ran."""
    known = record.evidence and (_evidence(record) / translated.MODULES).exists()
    return list(folder.glob(f"{Path(record.evidence).name}.*")) if known else []


def _blocks(paths: Iterable[Path]) -> set[tuple[int, int]]:
    return set().union(*map(translated.read_blocks, paths))


def _ours(line: Line) -> bool:
    """Return whether the map is about a line."""
    path = PurePath(line[0])
    return path in FILES or any(path.is_relative_to(folder) for folder in FOLDERS)


def _code_lines(kernel: KernelLines) -> set[Line]:
    code = (kernel.image, *kernel.modules.values())
    lines = itertools.chain.from_iterable(itertools.chain.from_iterable(one.lines for one in code))
    return {line for line in set(lines) if _ours(line) and line[0].endswith(".c")}


def _files(
    tree: Path, code: Iterable[Line], sets: Mapping[Line, int]
) -> dict[str, dict[str, KnownFunction]]:
    """Return the functions of each file."""
    by_file: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
    for path, number in sorted(code):
        by_file[path].append(number)
    return {
        path: _functions(path, (tree / path).read_text(errors="replace"), numbers, sets)
        for path, numbers in by_file.items()
    }


def _functions(
    path: str, text: str, numbers: Sequence[int], sets: Mapping[Line, int]
) -> dict[str, KnownFunction]:
    found = {}
    for one in csource.functions(text):
        inside = [number for number in numbers if one.first <= number <= one.last]
        lines = {number - one.first: sets.get((path, number), 0) for number in inside}
        if lines:
            found[one.name] = KnownFunction(one.digest, lines)
    return found


def _headers(out: Path, files: Container[str]) -> dict[str, tuple[str, ...]]:
    """Return the files of the map that include each header, as the compiler has said.

    Args:
        out: the build folder.
        files: the files of the map; others have no code.
    """
    found: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    commands = [path for folder in FOLDERS for path in (out / folder).rglob(".*.o.cmd")]
    commands += [out / one.parent / f".{one.stem}.o.cmd" for one in FILES]
    for command in commands:
        text = command.read_text()
        for source in filter(files.__contains__, SOURCE.findall(text)):
            for header in HEADER.findall(text):
                found[header].add(source)
    return {header: tuple(sorted(including)) for header, including in sorted(found.items())}
