"""The kernel's own tests of vfio, built to run in any guest.

Source: tools/testing/selftests/vfio of the default kernel's source package. They are linked
statically: the guests' C library is not the host's.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab import host, kernel, ksource, progress
from lab.cache import MANIFEST, Cache, digest
from lab.kbuild import Bench, Job

KIND = "selftests"
RECIPE = 1  # raise when they are built differently
SCRATCH_BYTES = 3 << 30
LINKING = "LDFLAGS=-static -s"
TESTS = "tools/testing/selftests"


def obtain(cache: Cache) -> Path:
    """Return the folder with the programs, building them if need be.

    Raises:
        HostError: a tool, disk space or the network is missing.
        BuildError: they do not compile.
    """
    spec = kernel.catalogue().spec(kernel.catalogue().default)
    package, archive = ksource.obtain(cache, spec.source)
    key = digest({"recipe": RECIPE, "source": package.sha256})[:16]

    def build(scratch: Path) -> None:
        host.need("kernel")
        host.need("selftests")
        host.need_space(scratch, SCRATCH_BYTES, "building the kernel's selftests")
        bench = Bench(Job(spec.name, (), (), 0), scratch / "work", cache)
        try:
            bench.unpack(archive)
            _compile(bench, scratch)
        finally:
            shutil.rmtree(scratch / "work", ignore_errors=True)

    return cache.obtain(KIND, key, build)


def files(folder: Path) -> dict[str, bytes]:
    """Return the programs by their names in the payload."""
    programs = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {f"selftests/{path.name}": path.read_bytes() for path in programs}


def _compile(bench: Bench, product: Path) -> None:
    tree, stage = os.fspath(bench.tree), bench.work / "stage"
    install = ["TARGETS=vfio", f"INSTALL_PATH={stage}", "install"]
    with progress.task(f"Compiling the selftests of kernel {bench.job.name}"):
        bench.run("selftests-headers", ["make", "-C", tree, "headers"])
        make = ["env", LINKING, "make", "-C", f"{tree}/{TESTS}"]
        bench.run("selftests", [*make, *install])
    for program in (stage / "vfio").glob("vfio_*"):
        shutil.copyfile(program, product / program.name)
