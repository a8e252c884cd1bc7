"""The container for real: built, then scenarios and an image build run in it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.containers import BASE, call, needs_containers, pip_volumes

from vfio_lab.image import rootfs
from vfio_lab.util.cache import Cache

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/vfio-lab-test"
LARGEST_BYTES = int(1.5 * (1 << 30))
CHANGED_S = 60.0

pytestmark = needs_containers


def build(*options, check=True):
    """Build the container by the script that users call."""
    environment = {**os.environ, "CONTAINER_TOOL": "buildah", "CONTAINER_IMAGE": IMAGE}
    command = [ROOT / "container/build", "--isolation=chroot", "--layers", *pip_volumes(), *options]
    return subprocess.run(command, env=environment, check=check, capture_output=True, text=True)


@pytest.fixture(scope="module")
def image(base):
    build(f"--build-arg=BASE={base}")
    yield IMAGE
    call("buildah", "rmi", "--force", IMAGE)
    call("buildah", "rmi", "--prune", "--force")


@pytest.fixture(scope="module")
def inside(image, tmp_path_factory):
    """Return what runs the script that users call, with a cache of its own."""
    cache = tmp_path_factory.mktemp("cache")
    names = {"CONTAINER_TOOL": "buildah", "CONTAINER_IMAGE": image, "XDG_CACHE_HOME": str(cache)}

    def run(*words, **more):
        command = [ROOT / "container/vfio-lab", *words]
        environment = {**os.environ, **names}
        more = {"cwd": ROOT, "stdin": subprocess.DEVNULL, **more}
        return subprocess.run(command, env=environment, check=False, capture_output=True, **more)

    return run


def test_the_image_is_small(image):
    folder = call("buildah", "from", image)
    try:
        used = call("du", "-xsb", call("buildah", "mount", folder)).split()[0]
    finally:
        call("buildah", "rm", folder)
    assert int(used) < LARGEST_BYTES


def test_a_changed_scenario_costs_seconds(base, image):
    assert image
    note = ROOT / "scenarios/changed"
    note.touch()
    started = time.monotonic()
    try:
        build(f"--build-arg=BASE={base}")
    finally:
        note.unlink()
    assert time.monotonic() - started < CHANGED_S


def test_a_base_that_is_no_debian_is_refused(base):
    made = call("buildah", "from", base)
    call("buildah", "run", "--isolation=chroot", made, "--", "rm", "/etc/os-release")
    call("buildah", "commit", made, f"{BASE}-other")
    call("buildah", "rm", made)
    done = build(f"--build-arg=BASE={BASE}-other", check=False)
    call("buildah", "rmi", "--force", f"{BASE}-other")
    assert done.returncode == 2
    assert "this host is not in images/hosts.toml" in done.stdout + done.stderr


def test_the_exit_code_and_the_output_come_through(inside):
    assert inside("kernel", "build", "none").returncode == 2
    assert b"Usage: vfio-lab" in inside("--help").stdout


def test_an_image_is_built_in_it(inside):
    done = inside("image", "build")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.endswith(b"root.squashfs\n")


def test_scenarios_run_in_it_with_a_kernel_that_was_handed_on(inside, tmp_path):
    if rootfs.find_image(Cache.default()) is None:
        pytest.skip("this cache has no image to hand on")
    archive = tmp_path / "archive"
    lab = Path(sys.executable).parent / "vfio-lab"
    call(lab, "cache", "export", "7.3", "-o", archive)
    with archive.open("rb") as file:
        assert inside("cache", "import", "-", stdin=file).returncode == 0
    done = inside("pytest", "scenarios/vf_token", "-n", "2", "-q")
    assert done.returncode == 0, done.stdout.decode()
    assert b" passed" in done.stdout
