"""The CI files for real: each command of each step, in the container that the service would use."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from click.testing import CliRunner
from support.containers import call, needs_containers, pip_volumes

from vfio_lab.cli import main
from vfio_lab.cli.ci_files import PLACES
from vfio_lab.image import rootfs
from vfio_lab.machine import portable
from vfio_lab.util import cache_archive, resources
from vfio_lab.util.cache import Cache

KERNEL = "7.3"
WORK, WHEELS = "/builds/my-lab", "/wheels"
ARCHIVE = "cache.tar.zst"

pytestmark = needs_containers


class Runner:
    """A service's runner: a container in which the commands of a job run in a project's folder."""

    def __init__(self, name, wheels, project):
        self.name, self.wheels, self.project = name, wheels, project

    def run(self, shell, text, **variables):
        given = {"PIP_FIND_LINKS": WHEELS, "PIP_PRE": "1", "KERNEL": KERNEL, **variables}
        options = [
            *("--isolation=chroot", f"--workingdir={WORK}", *pip_volumes()),
            *(f"--volume={self.project}:{WORK}", f"--volume={self.wheels}:{WHEELS}:ro"),
            *(f"--env={name}={value}" for name, value in given.items()),
        ]
        command = ["buildah", "run", *options, self.name, "--", *shell, text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def container(base):
    name = call("buildah", "from", base)
    yield name
    call("buildah", "rm", name)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """What pip finds the lab in."""
    folder = tmp_path_factory.mktemp("wheels")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    call(sys.executable, "-m", "pip", *build, resources.root())
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """What an earlier run left: a kernel, which takes a quarter of an hour, and the image."""
    cache = Cache.default()
    if rootfs.find_image(cache) is None:
        pytest.skip("this cache has no image to hand on")
    chosen = portable.select_entries(cache, [KERNEL], images=True).contents
    kept = tuple(one for one in chosen.entries if one.kind != "template")
    path = tmp_path_factory.mktemp("archive") / ARCHIVE
    with path.open("wb") as file:
        cache_archive.export_archive(cache, replace(chosen, entries=kept), file)
    return path


@pytest.fixture
def runner(container, wheels, tmp_path):
    return Runner(container, wheels, tmp_path / "my-lab")


def github(runner, read):
    """Run a job as GitHub does: each step in a shell of its own, `sh` in containers."""
    for step in read["jobs"]["scenarios"]["steps"]:
        if "run" in step:
            runner.run(["sh", "-ec"], step["run"], GITHUB_STEP_SUMMARY=f"{WORK}/step-summary.md")


def gitlab(runner, read):
    """Run a job as GitLab does: before_script and script in one shell, after_script in another."""
    job = read["vfio-lab"]
    for parts in (("before_script", "script"), ("after_script",)):
        lines = [line for part in parts for line in job[part]]
        runner.run(["bash", "-c"], "\n".join(["set -eo pipefail", *lines]))


@pytest.mark.parametrize("service", [github, gitlab])
def test_every_command_of_a_job_runs_and_leaves_what_the_job_keeps(
    runner, archive, service, tmp_path
):
    folder = runner.project
    done = CliRunner().invoke(main, ["init", str(folder), "--ci", service.__name__])
    assert done.exit_code == 0, done.output
    shutil.copyfile(archive, folder / ARCHIVE)
    service(runner, yaml.safe_load((folder / PLACES[service.__name__]).read_text()))
    assert ' tests="2"' in (folder / "results.xml").read_text()
    assert (folder / "report/index.html").exists()
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("```\n")
    assert "scenarios 2 proven" in summary
    (results,) = folder.glob("evidence/*/results.json")
    assert json.loads(results.read_text())["kernel"]["name"] == KERNEL
    with (folder / ARCHIVE).open("rb") as file:
        new = cache_archive.import_archive(Cache(tmp_path / "cache").open(), file, lambda _all: {})
    assert [one.kind for one in new.new].count("template") == 1
