"""The kernel's selftests in guests: those of the default kernel, and those of a kernel's own tree.

They are linked statically, because the guests' C library differs from the host's.

Source: tools/testing/selftests/vfio and .../iommu of the default kernel's source package.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.client.user import User
from vfio_lab.kernels import kselftests, ksource, packaged
from vfio_lab.kernels.kbuild import Bench, Job
from vfio_lab.kernels.toolchain import make_words
from vfio_lab.kernels.unpack import unneeded
from vfio_lab.util import host, jail, progress
from vfio_lab.util.cache import MANIFEST, Cache, digest

KIND = "selftests"
RECIPE = 4  # increase it when the way they are built changes
SCRATCH_BYTES = 3 << 30
LINKING = "LDFLAGS=-static -s"
TESTS = "tools/testing/selftests"
# The programs need headers of the kernel's, no code.
UNUSED = tuple(f"{folder}/*.c" for folder in ("drivers", "fs", "kernel", "mm", "net", "arch"))
# Of another architecture than the host's: what its programs are linked with, and the suites that
# need nothing else. Those of iommufd are for a mock IOMMU, which no kernel of the lab has there.
LIBRARY, LIBRARY_SUITES = "uuid-dev", ("bookworm",)
FOREIGN_SUITES = ("vfio",)
GROUP = ("vfio_type1_iommu", "vfio_type1v2_iommu")
COMPAT = ("iommufd_compat_type1", "iommufd_compat_type1v2")
CDEV = ("iommufd",)
INSTALLED = "/run/vfio-lab/selftests"
TIMEOUT_S = 240.0
MODES = (*GROUP, *COMPAT, *CDEV)


def selftest_names(fixture: str, variants: Iterable[str], tests: Iterable[str]) -> list[str]:
    """Return the names of a fixture's tests in TAP output.

    Args:
        fixture: the name in the program's `FIXTURE()`.
        variants: the names in `FIXTURE_VARIANT_ADD()`; an empty string if there are none.
        tests: the names in `TEST_F()`.
    """
    pairs = itertools.product(variants, tests)
    return [".".join(part for part in (fixture, *pair) if part) for pair in pairs]


def of_tokens(modes: Iterable[str]) -> list[str]:
    """Return the names of the VF token tests for some IOMMU modes."""
    uuids = ("same_uuid", "diff_uuid", "null_uuid")
    variants = [f"{mode}_{uuid}" for mode, uuid in itertools.product(modes, uuids)]
    tests = ("init_token_match", "pf_early_close", "override_token")
    return selftest_names("vfio_pci_sriov_uapi_test", variants, tests)


def ensure_selftests(cache: Cache, architecture: Architecture = X86_64) -> Path:
    """Return the folder with the programs; build them if necessary.

    Args:
        cache: the cache that keeps them.
        architecture: what they run on.

    Raises:
        HostError: a tool, disk space or the network is missing.
        BuildError: the programs do not compile.
    """
    spec = packaged.kernel_catalogue().spec(packaged.kernel_catalogue().default)
    package, archive = ksource.ensure_source(cache, spec.source)
    inputs = {"recipe": RECIPE, "source": package.sha256}
    if architecture != X86_64:
        inputs["architecture"] = architecture.name
    key = digest(inputs)[:16]

    def build(scratch: Path) -> None:
        host.need("kernel")
        host.need("selftests")
        host.need_compiler(architecture)
        host.need_space(scratch, SCRATCH_BYTES, "building the kernel's selftests")
        bench = Bench(Job(spec.name, (), (), 0, architecture), scratch / "work", cache)
        try:
            bench.unpack(archive, (*unneeded((), architecture.kernel), *UNUSED))
            _compile(bench, scratch)
        finally:
            cache.delete_later(scratch / "work")

    return cache.obtain(KIND, key, build, inputs=inputs)


def selftest_files(folder: Path) -> dict[str, bytes]:
    """Return the programs by their paths in the payload."""
    programs = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {f"selftests/{path.name}": path.read_bytes() for path in programs}


def own_selftest_files(product: Path) -> dict[str, bytes]:
    """Return the selftests of a kernel's own tree by their paths in the payload.

    Args:
        product: the folder of the kernel.
    """
    made = (one for one in kselftests.programs(product) if not one.flaw)
    folder = product / kselftests.FOLDER
    return {f"selftests/{one.file}": (folder / one.file).read_bytes() for one in made}


def run_selftest(user: User, program: str, *functions: PciFunction) -> str:
    """Run a program on functions in a guest and return its output, which is TAP.

    Args:
        user: the user that runs it.
        program: the program's name, e.g. `vfio_pci_device_test`.
        functions: the devices, bound to vfio-pci; most programs take one.
    """
    names = map(str, functions)
    return user.run(f"{INSTALLED}/{program}", *names, timeout_s=TIMEOUT_S).stdout


def _compile(bench: Bench, product: Path) -> None:
    tree, stage = os.fspath(bench.tree), bench.work / "stage"
    suites: tuple[str, ...] = kselftests.SUITES
    flags = [LINKING, f"EXTRA_CFLAGS=-ffile-prefix-map={tree}/="]
    if host.cross(bench.job.architecture):
        root = _unpacked_library(bench)
        libraries = root / "usr/lib" / bench.job.architecture.multiarch
        suites = FOREIGN_SUITES
        flags = [f"{flags[0]} -L{libraries}", f"{flags[1]} -I{root}/usr/include"]
    words = make_words(bench.job.architecture)
    install = [f"TARGETS={' '.join(suites)}", f"INSTALL_PATH={stage}", "install"]
    with progress.task(f"Compiling the selftests of kernel {bench.job.name}"):
        confined = bench.confinement()
        confined = replace(confined, writable=(*confined.writable, bench.tree))

        def run(stage: str, command: list[str]) -> None:
            bench.run(stage, jail.confine(command, confined, foreign=bench.foreign))

        run("selftests-headers", ["make", "-C", tree, *words, "headers"])
        flags.append(kselftests.longer_waits(bench))
        run("selftests", ["env", *flags, "make", "-C", f"{tree}/{TESTS}", *words, *install])
    for program in (*stage.glob("vfio/vfio_*"), *stage.glob("iommu/iommufd*")):
        shutil.copyfile(program, product / program.name)


def _unpacked_library(bench: Bench) -> Path:
    """Return the folder with the library of another architecture."""
    wanted = ksource.Wanted(LIBRARY, LIBRARY_SUITES, architecture=bench.job.architecture.debian)
    _package, path = ksource.ensure_source(bench.cache, wanted)
    root = bench.work / "libraries"
    bench.run("selftests-library", ["dpkg-deb", "--extract", os.fspath(path), os.fspath(root)])
    return root
