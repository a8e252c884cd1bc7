"""Coverage of vfio: the lines and branches that scenarios run, as counted by the kernel.

The modules of a `gcov` kernel are compiled with GCOV_PROFILE. Their counts are in debugfs; they are
fetched from each guest, added up, and shown by gcovr beside the source.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from vfio_lab.campaign.reach import covering, load_reach
from vfio_lab.errors import BuildError, HostError
from vfio_lab.kernels import (
    export,
    kbuild,
    kmodules,
    ktree,
)
from vfio_lab.kernels import packaged as kernels
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.base import TestMachine
from vfio_lab.util import host, progress
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.files import write_whole
from vfio_lab.util.process import environment, pipeline

FLAVOUR = "gcov"
ARCHIVE = "coverage.tar.gz"
COLLECT_TIMEOUT_S = 60.0
# Files of debugfs have size 0: only a read shows their content.
COLLECT = """
import base64, io, os, sys, tarfile
top, out = "/sys/kernel/debug/gcov", io.BytesIO()
with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
    for folder, _, names in os.walk(top):
        for name in names:
            if name.endswith(".gcda"):
                path = os.path.join(folder, name)
                data = open(path, "rb").read()
                member = tarfile.TarInfo(os.path.relpath(path, top))
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
sys.stdout.write(base64.b64encode(out.getvalue()).decode())
"""
# Code that the coverage targets apply to: files, and these functions of vfio_pci_core.c.
CORE = PurePath("drivers/vfio/pci/vfio_pci_core.c")
OWN = ("drivers/vfio/group.c", "drivers/vfio/device_cdev.c")
FUNCTIONS = re.compile(r"token|match|vf_(un)?init|sriov|hot_reset|bus_notifier|dev_set|fill_devs")
# Folders that the targets apply to as a whole.
AREAS = (
    ("drivers/vfio/pci, all", re.compile(r"drivers/vfio/pci/")),
    ("drivers/vfio, the core and type1", re.compile(r"drivers/vfio/[^/]+$")),
    ("iommufd without its mock", re.compile(r"drivers/iommu/iommufd/(?!selftest)")),
)


@dataclass(frozen=True)
class Covered:
    """The coverage of a file or of several functions.

    Args:
        name: a file, or words for several functions.
        lines: the number of lines.
        hit: the number of lines that ran.
        branches: the number of branches.
        taken: the number of branches that were taken.
    """

    name: str
    lines: int
    hit: int
    branches: int = 0
    taken: int = 0

    def __str__(self) -> str:
        """Return the coverage in one line."""
        share = f"{_percent(self.hit, self.lines):>7}  {self.hit:>5} of {self.lines:<5}"
        return f"{share} {_percent(self.taken, self.branches):>7}  {self.name}"


def collect_coverage(guest: TestMachine) -> None:
    """Fetch a guest's counts into its evidence folder, if its kernel counts."""
    if guest.machine.kernel.option("GCOV_KERNEL") is None:
        return
    done = guest.user("coverage").run("python3", "-S", "-c", COLLECT, timeout_s=COLLECT_TIMEOUT_S)
    if done.exit:
        raise BuildError("cannot fetch a guest's coverage", guest=guest.name, tail=done.stderr)
    write_whole(guest.folder / ARCHIVE, base64.b64decode(done.stdout))


@contextmanager
def instrumented(name: str, cache: Cache) -> Iterator[tuple[Kernel, kbuild.Bench]]:
    """Yield a kernel that counts, and the folder where it was compiled.

    Raises:
        BuildError: it does not compile.
    """
    flavour = f"{name}:{FLAVOUR}"
    base, tree = kernels.ensure_packaged_kernel(flavour, cache), ktree.ensure_tree(flavour, cache)
    with ktree.branch(tree, f"{flavour}-run", [ktree.WHOLE]) as bench:
        key = digest({"base": base.digest, "place": os.fspath(bench.out)})[:16]

        def build(scratch: Path) -> None:
            bench.compile("GCOV_PROFILE=y", *tree.modules())
            made = [bench.out / one for one in tree.modules()]
            kmodules.product(base, made, scratch, bench.log("pack"))
            facts = {"release": base.release, "version": base.version, "lasting": False}
            kernels.write_facts(scratch, {"name": f"{flavour}+{key[:8]}", **facts})

        try:
            yield kernels.read_kernel(cache.obtain(export.KIND, key, build)), bench
        finally:
            cache.remove(export.KIND, key)


def enough_scenarios(wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the scenarios that run all lines of vfio that some scenarios run.

    Args:
        wanted: the scenarios; those that are not in the map are all kept.
    """
    reach, areas = load_reach(), (PurePath("drivers/vfio"), PurePath("drivers/iommu/iommufd"))
    chosen, known = set(covering(reach, areas)), set(reach.names)
    return tuple(one for one in wanted if one in chosen or one not in known)


def merge_counts(archives: Sequence[Path], out: Path, scratch: Path, log: Path) -> int:
    """Add up the counts of guests in files beside the objects; return the number of guests.

    Args:
        archives: the files that `collect_coverage` wrote.
        out: the build folder.
        scratch: a folder to work in.
        log: the file for gcov-tool's output.

    Raises:
        BuildError: a count does not belong to the objects.
    """
    if host.which("gcov-tool") is None:
        raise HostError("cannot add up coverage", seen="no gcov-tool", hint="it comes with gcc")
    total, one, sum_ = (scratch / name for name in ("total", "one", "sum"))
    for archive in archives:
        _unpack(archive, one)
        if not total.exists():
            one.rename(total)
            continue
        pipeline(
            "add up coverage",
            ["gcov-tool", "merge", os.fspath(total), os.fspath(one), "-o", os.fspath(sum_)],
            log=log,
        )
        shutil.rmtree(one)
        shutil.rmtree(total)
        sum_.rename(total)
    place = total / os.fspath(out).lstrip("/")
    for found in place.rglob("*.gcda"):
        shutil.copyfile(found, out / found.relative_to(place))
    shutil.rmtree(scratch, ignore_errors=True)
    return len(archives)


def _unpack(archive: Path, target: Path) -> None:
    """Unpack a guest's archive; refuse a name that leads out of the target folder."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = target / member.name
            content = tar.extractfile(member)
            if content is None or ".." in path.parts or not path.is_relative_to(target):
                raise BuildError(f"{archive} is no coverage", seen=member.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())


def coverage_report(bench: kbuild.Bench, target: Path) -> list[Covered]:
    """Write the counts as web pages beside the source, and return them by file.

    Args:
        bench: the folder where the kernel was compiled.
        target: folder for the pages.

    Raises:
        HostError: gcovr is not installed.
        BuildError: there is nothing to report.
    """
    target.mkdir(parents=True, exist_ok=True)
    data = target / "coverage.json"
    command = [sys.executable, "-m", "gcovr", "--root", os.fspath(bench.tree)]
    command += ["--filter", ".*/drivers/(vfio|iommu/iommufd)/.*"]
    # Sources have paths relative to the build folder: gcov finds them only from there.
    command += ["--gcov-object-directory", os.fspath(bench.out)]
    command += ["--html-details", os.fspath(target / "index.html"), "--json", os.fspath(data)]
    with progress.task("Writing the coverage report"):
        done = subprocess.run(
            [*command, os.fspath(bench.out / "drivers")],
            cwd=bench.out,
            check=False,
            capture_output=True,
            text=True,
            env=environment(),
        )
    if done.returncode:
        raise HostError("cannot write the report", tail=done.stderr, hint="make setup")
    found = coverage_summary(json.loads(data.read_text()))
    if not any(each.lines for each in found):
        raise BuildError(
            "no line of vfio was counted",
            expected="counts of the modules that the scenarios loaded",
            seen=f"{len(found)} files without any",
            tail=done.stderr,
        )
    return found


def coverage_summary(data: Mapping[str, list[dict[str, object]]]) -> list[Covered]:
    """Return the coverage of each file, then that of the code that the project has targets for."""
    files = {str(each["file"]): each for each in data["files"]}
    found = [_covered(name, _lines(each)) for name, each in sorted(files.items())]
    for name, wanted in AREAS:
        inside = [line for path in files if wanted.match(path) for line in _lines(files[path])]
        found.append(_covered(name, inside))
    chosen = [line for name in OWN if name in files for line in _lines(files[name])]
    for name in (CORE.as_posix(),):
        lines = _lines(files[name]) if name in files else []
        chosen += [one for one in lines if FUNCTIONS.search(str(one.get("function_name") or ""))]
    return [*found, _covered("token, SR-IOV, hot reset, group.c and device_cdev.c", chosen)]


def _lines(file: Mapping[str, object]) -> list[dict[str, object]]:
    lines = file["lines"]
    assert isinstance(lines, list)
    return [line for line in lines if not line.get("gcovr/noncode")]


def _covered(name: str, lines: Sequence[Mapping[str, object]]) -> Covered:
    branches = [branch for line in lines for branch in _list(line.get("branches"))]
    return Covered(
        name,
        len(lines),
        sum(bool(line["count"]) for line in lines),
        len(branches),
        sum(bool(branch["count"]) for branch in branches),
    )


def _list(value: object) -> list[Mapping[str, object]]:
    return value if isinstance(value, list) else []


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
