"""The initramfs: read back by the tool that knows the format."""

import subprocess
from pathlib import Path

import pytest
from support.kernel_files import tool

from vfio_lab.kernels import earlyboot
from vfio_lab.kernels.modfiles import Module

MODULES = [Module(Path("kernel/a/virtio.ko"), b"one"), Module(Path("kernel/b.ko"), b"twelve bytes")]


def unpacked(archive: bytes, folder: Path) -> Path:
    command = ["cpio", "--extract", "--make-directories", "--quiet"]
    subprocess.run(command, input=archive, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return folder


def listed(archive: bytes) -> list[str]:
    command = ["cpio", "--list", "--verbose", "--numeric-uid-gid", "--quiet"]
    done = subprocess.run(command, input=archive, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def test_it_holds_the_first_process_the_modules_and_their_order():
    archive = earlyboot.initramfs(b"program", MODULES)
    found = listed(archive)
    assert [line.split()[-1] for line in found] == [
        "dev",
        "dev/console",
        "lib",
        "lib/virtio.ko",
        "lib/b.ko",
        "modules",
        "init",
    ]
    assert found[1].startswith("crw-------")
    assert "5,   1" in found[1]
    assert found[-1].startswith("-rwxr-xr-x")
    assert archive == earlyboot.initramfs(b"program", MODULES)


def test_contents_survive_whatever_their_length(tmp_path):
    top = unpacked(earlyboot.initramfs(b"program", MODULES), tmp_path)
    assert (top / "lib/virtio.ko").read_bytes() == b"one"
    assert (top / "lib/b.ko").read_bytes() == b"twelve bytes"
    assert (top / "modules").read_text() == "/lib/virtio.ko\n/lib/b.ko\n"


def test_the_first_process_needs_no_library(tmp_path):
    program = earlyboot.compiled(tmp_path / "init", tmp_path / "log")
    assert list(tmp_path.iterdir()) == [tmp_path / "log"]
    path = tmp_path / "program"
    path.write_bytes(program)
    assert "INTERP" not in tool("readelf", "--program-headers", path)


@pytest.mark.usefixtures("as_root")
def test_the_first_process_says_what_failed_and_ends(tmp_path):
    """Without privileges its first mount fails: the console would show at which step."""
    path = tmp_path / "program"
    path.write_bytes(earlyboot.compiled(tmp_path / "init", tmp_path / "log"))
    path.chmod(0o755)
    user = ["setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-all"]
    done = subprocess.run([*user, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("vfio-lab: early init failed at: mounting /dev")
