"""Compilers for reproducers, with the headers of the default kernel for programs.

Headers and the compiler for arm64 come in Debian's packages, which the lab's own apt fetches.
"""

import subprocess

import pytest

from vfio_lab.errors import HostError
from vfio_lab.kernels import ksource, packaged
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.host import which

STRICT = ("-Wall", "-Wextra", "-Werror", "-O2")
CROSS = "aarch64-linux-gnu-gcc-12"
CROSS_PARTS = (
    r"(cpp-12|binutils|libgcc-12-dev)-(aarch64-linux-gnu|arm64-cross)|lib(isl|mpc|mpfr)\d+"
)
CROSS_PACKAGES = (
    ksource.Wanted("gcc-12-aarch64-linux-gnu", ("bookworm",), CROSS_PARTS),
    ksource.Wanted("libc6-dev-arm64-cross", ("bookworm",)),
)


def unpacked(*wanted):
    """Return the folder with the content of packages; skip where they cannot be fetched."""
    cache = Cache.default().open()
    try:
        entries = [ksource.ensure_packages(cache, one)[1] for one in wanted]
    except HostError as error:
        pytest.skip(f"needs {wanted[0].package} of Debian's archive: {error.what}")

    def unpack(scratch):
        for package in (path for entry in entries for path in entry.glob("*.deb")):
            command = [which("dpkg-deb"), "--extract", package, scratch / "root"]
            subprocess.run(command, check=True)

    key = digest([entry.name for entry in entries])[:16]
    return cache.obtain("unpacked", key, unpack) / "root"


@pytest.fixture(scope="session")
def kernel_headers():
    """Return what makes the options that find the headers, for the kernel's name of a machine."""
    catalogue = packaged.kernel_catalogue()
    suites = catalogue.spec(catalogue.default).source.suites
    folder = unpacked(ksource.Wanted("linux-libc-dev", suites))
    return lambda arch: [f"-I{folder}/usr/include", f"-I{folder}/usr/lib/linux/uapi/{arch}"]


@pytest.fixture(scope="session")
def gcc(kernel_headers):
    """The command for x86-64, without a file."""
    return [which("gcc"), *STRICT, *kernel_headers("x86")]


@pytest.fixture(scope="session")
def gcc_arm64(kernel_headers):
    """The command for arm64, without a file."""
    root = unpacked(*CROSS_PACKAGES)
    libraries = f"LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu"
    command = [which("env"), libraries, root / "usr/bin" / CROSS, f"--sysroot={root}"]
    if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs a host that runs {CROSS} of Debian bookworm")
    return [*command, *STRICT, *kernel_headers("arm64")]
