"""The selftests of a kernel's own tree, built for guests.

The tree's makefiles say which there are. They are linked statically, because the guests' C library
differs from the host's. One that does not build does not fail the kernel; the reason is kept.

Source: tools/testing/selftests/lib.mk, `emit_tests`; Documentation/dev-tools/kselftest.rst.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath

from vfio_lab.errors import BuildError
from vfio_lab.kernels import kconfig
from vfio_lab.kernels.kbuild import Bench
from vfio_lab.kernels.make_output import complaint
from vfio_lab.util import host, jail, progress
from vfio_lab.util.cache import MANIFEST, digest, file_digest
from vfio_lab.util.deadline import CLOCK_FACTOR
from vfio_lab.util.files import write_whole

KIND = "kselftests"
KEPT = 8
RECIPE = 2  # increase it when the way they are built changes
SUITES = ("vfio", "iommu")
TESTS = PurePath("tools/testing/selftests")
# What the programs are made of; make follows other headers by itself, but these change.
SHARED = ("tools/include", "include/uapi", "arch/x86/include/uapi")
FOLDER, LISTED = "selftests", "selftests.json"
STAGE = "selftests"
FAILED = re.compile(r"^make.*\*\*\* \[.*?/kselftest/(\S+?)(?:\.o)?\] Error", re.MULTILINE)
ELF = b"\x7fELF"
FAR_TOO_LONG = 160
# kselftest_harness.h ends a test after 30 s of the guest's clock, which a busy host does not stop.
PATIENT = f"""
#include <poll.h>
#include <unistd.h>
#define poll(fds, count, ms) poll(fds, count, (ms) > 0 ? {CLOCK_FACTOR} * (ms) : (ms))
#define alarm(seconds) alarm({CLOCK_FACTOR} * (seconds))
"""


@dataclass(frozen=True)
class Program:
    """A program among the selftests of a tree.

    Args:
        name: suite and name, `vfio/vfio_pci_device_test`.
        flaw: why it cannot run in guests, empty if it can.
        needs: the options that its suite asks of the kernel.
    """

    name: str
    flaw: str = ""
    needs: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The name of its file in a product."""
        return f"own-{self.name.replace('/', '-')}"


def concern(names: Iterable[PurePath]) -> bool:
    """Return whether some of the files are selftests of vfio or iommufd."""
    suites = [TESTS / suite for suite in SUITES]
    return any(name.is_relative_to(suite) for name in names for suite in suites)


def add_selftests(bench: Bench, product: Path) -> None:
    """Build the selftests of a tree, if it has some, and put them beside its kernel.

    Args:
        bench: the build of the tree, which is configured.
        product: the folder of the kernel.

    Raises:
        HostError: disk space is missing.
    """
    if not (suites := [one for one in SUITES if (bench.tree / TESTS / one / "Makefile").exists()]):
        return
    key = digest({"recipe": RECIPE, "files": _inputs(bench.tree, suites)})[:16]
    entry = bench.cache.obtain(KIND, key, lambda scratch: _build(bench, suites, scratch))
    shutil.copytree(entry, product / FOLDER, ignore=shutil.ignore_patterns(MANIFEST))
    bench.cache.prune(KIND, KEPT)


def longer_waits(bench: Bench) -> str:
    """Return the word for make that has selftests wait longer for their tests.

    Args:
        bench: the build, whose folder gets a header.
    """
    header = bench.work / "patient.h"
    header.write_text(PATIENT)
    return f"USERCFLAGS=-include {header}"


def programs(product: Path) -> list[Program]:
    """Return the selftests beside a kernel; none if it is not of a tree."""
    listed = product / FOLDER / LISTED
    if not listed.exists():
        return []
    found = json.loads(listed.read_text())
    return [Program(one["name"], one["flaw"], tuple(one["needs"])) for one in found]


def _inputs(tree: Path, suites: list[str]) -> dict[str, str]:
    """Return the digests of the files that selftests are made of."""
    folders = [*(TESTS / suite for suite in suites), *map(PurePath, SHARED)]
    files = {path for folder in folders for path in (tree / folder).rglob("*")}
    files |= {path for glob in ("*.h", "*.mk", "Makefile") for path in (tree / TESTS).glob(glob)}
    return {str(path.relative_to(tree)): file_digest(path) for path in files if path.is_file()}


def _build(bench: Bench, suites: list[str], product: Path) -> None:
    host.need("selftests")
    out = bench.out / "kselftest"
    shutil.rmtree(out, ignore_errors=True)  # make does not know that a command line changed
    with progress.task(f"Compiling the selftests of kernel {bench.job.name}"):
        log = _compile(bench, suites)
        found = [
            Program(name, _take(name, out, product, log), _needs(bench.tree, suite))
            for suite in suites
            for name in _names(bench, suite)
        ]
    write_whole(product / LISTED, json.dumps([asdict(one) for one in found], indent=1))


def _compile(bench: Bench, suites: list[str]) -> str:
    """Compile what compiles; return the log."""
    nowhere = f"EXTRA_CFLAGS=-ffile-prefix-map={bench.tree}/="
    command = ["env", "LDFLAGS=-static -s", nowhere, longer_waits(bench), "make", "--keep-going"]
    command += ["-C", f"{bench.tree}/{TESTS}", f"O={bench.out}", f"TARGETS={' '.join(suites)}"]
    try:
        bench.make(f"{STAGE}-headers", "headers")
        bench.run(STAGE, jail.confine(command, bench.confinement(), foreign=bench.foreign))
    except BuildError as error:  # some do not compile: `_take` says which
        return error.where.read_text(errors="replace") if error.where else ""
    return bench.log(STAGE).read_text(errors="replace")


def _names(bench: Bench, suite: str) -> list[str]:
    """Return the programs of a suite, as its makefile lists them."""
    stage = f"{STAGE}-list-{suite}"
    command = ["make", "--silent", "--no-print-directory", "-C", f"{bench.tree}/{TESTS}/{suite}"]
    command += [f"COLLECTION={suite}", f"OUTPUT={bench.out}/kselftest/{suite}", "emit_tests"]
    try:
        bench.run(stage, jail.confine(command, bench.confinement(), foreign=bench.foreign))
    except BuildError:
        return []
    lines = bench.log(stage).read_text(errors="replace").splitlines()
    names = (line.partition(":")[2] for line in lines if line.startswith(f"{suite}:"))
    return [f"{suite}/{PurePath(name).name}" for name in names]


def _take(name: str, out: Path, product: Path, log: str) -> str:
    """Copy a program to the product, or return why that cannot be."""
    made = out / name
    if not made.is_file():
        suite, _slash, program = name.partition("/")
        if list(out.parents[1].glob(f"{TESTS}/{suite}/{program}")):
            return "it is a script, and guests run programs only"
        return f"it does not build: {_why(log, name)}"
    with made.open("rb") as file:
        if file.read(len(ELF)) != ELF:
            return "it is a script, and guests run programs only"
    shutil.copyfile(made, product / Program(name).file)
    return ""


def _why(log: str, name: str) -> str:
    """Return the first complaint about a program, or the first of all if none names it."""
    start = 0
    for match in FAILED.finditer(log):
        part, start = log[start : match.start()], match.end()
        if match[1] == name:
            lines = [line for line in part.splitlines() if line.strip()]
            return (complaint(part) or (lines[-1] if lines else "no reason given"))[:FAR_TOO_LONG]
    return (complaint(log) or "no reason given")[:FAR_TOO_LONG]


def _needs(tree: Path, suite: str) -> tuple[str, ...]:
    config = tree / TESTS / suite / "config"
    if not config.exists():
        return ()
    wanted = kconfig.read_config(config.read_text(errors="replace"))
    return tuple(name for name, value in wanted.items() if value != "n")
