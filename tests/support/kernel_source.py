"""Parts of the source that the default kernel is built from: kunit.py."""

import json
import subprocess
import sys

import pytest

from vfio_lab.kernels import ksource, packaged
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.host import which

KUNIT = "tools/testing/kunit"
WANTED = f"{KUNIT}/*.py"
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
    """Unpack the parts."""
    name = f"./usr/src/{archive.name.partition('_')[0]}.tar.xz"
    outer = [which("dpkg-deb"), "--fsys-tarfile", archive]
    inner = [which("tar"), "--extract", "--to-command=xz --decompress --threads=0 --stdout", name]
    command = [which("tar"), "--extract", f"--directory={scratch}", "--strip-components=1"]
    with (
        subprocess.Popen(outer, stdout=subprocess.PIPE) as package,
        subprocess.Popen(inner, stdin=package.stdout, stdout=subprocess.PIPE) as source,
    ):
        parts = f"{PREFIX}/{WANTED}"
        subprocess.run([*command, "--wildcards", parts], stdin=source.stdout, check=True)


@pytest.fixture(scope="session")
def kunit(kernel_source):
    """The kernel's own parser of KTAP."""
    return kernel_source / KUNIT / "kunit.py"


@pytest.fixture
def parsed(kunit, tmp_path):
    """What makes kunit.py parse a text; returns its results as JSON."""

    def parse(text):
        document, report = tmp_path / "run.ktap", tmp_path / "run.json"
        document.write_text(text)
        command = [sys.executable, kunit, "parse", f"--json={report}", document]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "[ERROR]" not in done.stdout, done.stdout
        return json.loads(report.read_text())

    return parse
