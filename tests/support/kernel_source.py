"""Parts of the source that the default kernel is built from: kunit.py and the uAPI's headers."""

import shutil
import subprocess

import pytest

from vfio_lab.kernels import ksource, packaged
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.host import which

KUNIT = "tools/testing/kunit"
HEADERS = "usr/include"
# What `make headers` reads.
WANTED = ("Makefile", "scripts/*", "include/*", "arch/x86/Makefile*")
WANTED = (*WANTED, "arch/x86/entry/syscalls/*", "usr/*", f"{KUNIT}/*.py")
PREFIX = "linux-source-*"


@pytest.fixture(scope="session")
def kernel_source():
    """The folder with those parts."""
    catalogue = packaged.kernel_catalogue()
    cache = Cache.default().open()
    wanted = catalogue.spec(catalogue.default).source
    if ksource.pinned(cache, wanted) is None:
        pytest.skip(f"needs {wanted.package}: no kernel is built from it yet")
    package, archive = ksource.ensure_source(cache, wanted)
    key = digest({"source": package.sha256, "wanted": WANTED})[:16]
    return cache.obtain("source-parts", key, lambda scratch: unpack(archive, scratch))


def unpack(archive, scratch):
    """Unpack the parts and make the headers."""
    tree = scratch / "tree"
    tree.mkdir()
    name = f"./usr/src/{archive.name.partition('_')[0]}.tar.xz"
    outer = [which("dpkg-deb"), "--fsys-tarfile", archive]
    inner = [which("tar"), "--extract", "--to-command=xz --decompress --threads=0 --stdout", name]
    parts = [f"{PREFIX}/{part}" for part in WANTED]
    command = [which("tar"), "--extract", f"--directory={tree}", "--strip-components=1"]
    with (
        subprocess.Popen(outer, stdout=subprocess.PIPE) as package,
        subprocess.Popen(inner, stdin=package.stdout, stdout=subprocess.PIPE) as source,
    ):
        subprocess.run([*command, "--wildcards", *parts], stdin=source.stdout, check=True)
    subprocess.run([which("make"), "--silent", "-C", tree, "headers"], check=True)
    shutil.copytree(tree / HEADERS, scratch / HEADERS)
    shutil.copytree(tree / KUNIT, scratch / KUNIT)
    shutil.rmtree(tree)


@pytest.fixture(scope="session")
def kunit(kernel_source):
    """The kernel's own parser of KTAP."""
    return kernel_source / KUNIT / "kunit.py"


@pytest.fixture(scope="session")
def uapi_headers(kernel_source):
    """The folder for -I with the kernel's headers for programs."""
    return kernel_source / HEADERS
