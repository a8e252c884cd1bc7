"""A project that `init` made, used as its authors would."""

import subprocess

import pytest

from vfio_lab.util import resources

FAULT = resources.root() / "faults/7.3/token-wrong-errno.patch"
NODE = "scenarios/test_token.py::test_a_vf_opens_only_with_the_token_of_its_pf"
IMAGE = """
[images.my-image]
files = { "motd" = "etc/motd" }
"""
SCENARIO = """

@claim("MYL01")
@pytest.mark.image("my-image")
def test_the_image_has_our_file(vf_user):
    assert vf_user.run("cat", "/etc/motd").stdout == "ours"
"""


@pytest.fixture
def project(installed, elsewhere):
    installed("vfio-lab", "init", "my-lab", cwd=elsewhere)
    return elsewhere / "my-lab"


def test_an_installed_extension_adds_to_the_lab_everywhere(installed, project, pip, tmp_path):
    site, folder = tmp_path / "site", tmp_path / "another"
    folder.mkdir()
    options = ("--no-deps", "--no-build-isolation", "--target", site)
    subprocess.run([*pip, "install", *options, project], check=True)
    shown = ("topology", "show", "my-lab")
    assert "no topology" in installed("vfio-lab", *shown, cwd=folder, code=2)
    assert "nic0" in installed("vfio-lab", *shown, cwd=folder, PYTHONPATH=str(site))
    words = ("claims", "--area", "my_lab")
    assert "MYL01" in installed("vfio-lab", *words, cwd=folder, PYTHONPATH=str(site))


def test_an_image_of_the_projects_own_boots(installed, project):
    images = project / "my_lab/images"
    images.mkdir()
    (images / "rootfs.toml").write_text(IMAGE)
    (images / "motd").write_text("ours")
    with (project / "scenarios/test_token.py").open("a") as file:
        file.write(SCENARIO)
    assert "1 passed" in installed("pytest", "-k", "image", cwd=project)


def test_the_projects_scenarios_judge_a_fault_and_a_patch(installed, project):
    words = ("mutate", FAULT.stem, "--on", "7.3")
    assert "2 of 2 as they should be" in installed("vfio-lab", *words, cwd=project)
    said = installed("vfio-lab", "try", FAULT, "--on", "7.3", cwd=project, code=1)
    assert f"{NODE}[wrong token]" in said
    assert "2 scenarios, 1 differ" in said
