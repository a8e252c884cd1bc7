"""The scripts that build and run the container: which tool, which folders, which exit code."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Machine:
    """A user's folder, and container tools that write down what they are told."""

    def __init__(self, folder):
        self.bin, self.work, self.home = folder / "bin", folder / "work", folder / "home"
        self.told = folder / "told"
        for path in (self.bin, self.work, self.home):
            path.mkdir()
        for name in ("sh", "dirname", "mkdir", "id", "stat", "grep", "sed", "sort", "head"):
            (self.bin / name).symlink_to(f"/usr/bin/{name}" if name != "sh" else "/bin/sh")

    def has(self, tool, body="exit 0"):
        path = self.bin / tool
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "{tool} $*" >>{self.told}\n{body}\n')
        path.chmod(0o755)

    def run(self, script, *words, **more):
        return subprocess.run(
            [ROOT / "container" / script, *words],
            cwd=self.work,
            env={"PATH": str(self.bin), "HOME": str(self.home), **more},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    @property
    def last(self):
        return self.told.read_text().splitlines()[-1]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize("script", ["build", "vfio-lab"])
def test_without_a_tool_one_line_says_what_to_install(machine, script):
    done = machine.run(script, "doctor")
    assert done.returncode == 2
    assert done.stderr == (
        "container: no podman, docker or buildah on the PATH: install one of them\n"
    )


@pytest.mark.parametrize("tools", [("podman", "docker", "buildah"), ("docker", "buildah")])
def test_the_build_takes_the_first_tool_and_says_which(machine, tools):
    for tool in tools:
        machine.has(tool, 'case $1 in --version) echo "version 25.0 of it";; esac')
    done = machine.run("build", "--build-arg", "BASE=local")
    assert done.returncode == 0
    assert "building vfio-lab with version 25.0 of it" in done.stderr
    expected = "build --build-arg BASE=local --tag vfio-lab --file container/Containerfile ."
    assert machine.last == f"{tools[0]} {expected}"


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("podman", "podman version 3.4.4"),
        ("docker", "Docker version 19.03.8, build afacb8b"),
        ("buildah", "buildah version 1.19.6 (image-spec 1.0.1, runtime-spec 1.0.2-dev)"),
    ],
)
def test_a_tool_that_is_too_old_is_refused_before_it_builds(machine, tool, said):
    machine.has(tool, f'echo "{said}"')
    done = machine.run("build")
    assert done.returncode == 2
    assert done.stderr.startswith(f"container: {said} is too old: install ")
    assert machine.last == f"{tool} --version"


def test_a_build_that_fails_names_the_base(machine):
    machine.has("podman", "[ $1 != build ]")
    done = machine.run("build")
    assert done.returncode == 2
    assert "the base must be Debian 13 or newer" in done.stderr


def test_a_missing_image_is_said(machine):
    machine.has("podman", "[ $1 != image ]")
    done = machine.run("vfio-lab", "doctor")
    assert (done.returncode, done.stderr) == (2, "container: no image vfio-lab: make container\n")


def test_the_root_folder_is_never_mounted(machine):
    machine.has("podman")
    machine.work = Path("/")
    assert "the current folder is /" in machine.run("vfio-lab", "doctor").stderr


@pytest.mark.parametrize("tool", ["podman", "docker"])
def test_a_command_sees_the_folder_the_cache_and_named_trees(machine, tmp_path, tool):
    tree = tmp_path / "linux"
    tree.mkdir()
    machine.has(tool)
    machine.run("vfio-lab", "pytest", f"--lab-kernel={tree}", "-k", "a b", XDG_CACHE_HOME="/tmp/c")
    assert machine.last.startswith(f"{tool} run --workdir {machine.work} --rm --init --interactive")
    for words in (
        f"--volume {machine.work}:{machine.work} ",
        "--volume /tmp/c/vfio-lab:/cache/vfio-lab ",
        f"--volume {tree}:{tree}:ro ",
    ):
        assert words in machine.last
    assert machine.last.endswith(f" vfio-lab pytest --lab-kernel={tree} -k a b")


def test_what_lies_in_the_folder_is_not_mounted_again(machine):
    machine.has("podman")
    (machine.work / "a.mbox").touch()
    machine.run("vfio-lab", "try", str(machine.work / "a.mbox"))
    assert machine.last.count("--volume") == 2


@pytest.mark.parametrize("tool", ["podman", "docker", "buildah"])
def test_the_exit_code_is_the_commands(machine, tool):
    machine.has(tool, '[ "$1" != run ] || exit 125')
    assert machine.run("vfio-lab", "try", "x").returncode == 125


def test_the_container_of_buildah_is_removed(machine):
    machine.has("buildah", '[ "$1" != from ] || echo made-1')
    machine.run("vfio-lab", "doctor")
    assert machine.last == "buildah rm made-1"
