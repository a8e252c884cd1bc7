"""The CI files of a project: valid for their services, written once, never half."""

import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from vfio_lab.cli import main
from vfio_lab.cli.ci_files import PLACES, TEMPLATES
from vfio_lab.util import resources

CHECKS = {
    "github": ("--builtin-schema", "vendor.github-workflows"),
    "gitlab": ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
}
KERNELS = """
[kernels."5.10"]
about = "old"
package = "linux-source-5.10"
suites = ["bullseye"]
steps = { plain = 1 }
"""
services = pytest.mark.parametrize("service", CHECKS)


def init(folder, service):
    return CliRunner().invoke(main, ["init", str(folder), "--ci", service])


def checked(service, path):
    command = [sys.executable, "-m", "check_jsonschema", *CHECKS[service], str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@services
def test_a_new_project_has_a_file_that_fits_the_services_schema(tmp_path, service):
    done = init(tmp_path / "my-lab", service)
    assert done.exit_code == 0, done.output
    path = tmp_path / "my-lab" / PLACES[service]
    assert str(PLACES[service]) in done.output
    assert checked(service, path).returncode == 0
    assert (tmp_path / "my-lab/pyproject.toml").exists()


@services
def test_the_schema_refuses_a_file_with_a_flaw(tmp_path, service):
    """The failing twin: a schema that takes anything would prove nothing."""
    init(tmp_path / "my-lab", service)
    path = tmp_path / "my-lab" / PLACES[service]
    path.write_text(path.read_text().replace("matrix:", "matrices:"))
    assert checked(service, path).returncode == 1


@services
def test_each_kernel_has_a_job_the_projects_own_too(tmp_path, service):
    folder = tmp_path / "my-lab"
    CliRunner().invoke(main, ["init", str(folder)])
    (folder / "my_lab/images").mkdir()
    (folder / "my_lab/images/kernels.toml").write_text(KERNELS)
    init(folder, service)
    read = yaml.safe_load((folder / PLACES[service]).read_text())
    if service == "github":
        kernels = read["jobs"]["scenarios"]["strategy"]["matrix"]["kernel"]
    else:
        kernels = read["vfio-lab"]["parallel"]["matrix"][0]["KERNEL"]
    assert kernels == ["7.3", "6.12", "6.1", "5.10"]


@services
def test_every_word_of_the_template_is_filled_in(tmp_path, service):
    init(tmp_path / "my-lab", service)
    text = (tmp_path / "my-lab" / PLACES[service]).read_text()
    assert "@" in (TEMPLATES / f"{service}.yml").read_text()
    assert "@" not in text.replace("@v4", "")
    assert max(map(len, text.splitlines())) <= 100
    assert " qemu-system-x86 " in text


@services
def test_a_file_that_exists_is_not_written_over(tmp_path, service):
    folder = tmp_path / "my-lab"
    init(folder, service)
    (folder / PLACES[service]).write_text("mine")
    done = init(folder, service)
    assert done.exit_code == 2
    assert f"{PLACES[service]} exists" in done.stderr
    assert (folder / PLACES[service]).read_text() == "mine"


@services
def test_a_folder_that_is_no_project_is_left_as_it_was(tmp_path, service):
    (tmp_path / "note").write_text("mine")
    done = init(tmp_path, service)
    assert done.exit_code == 2
    assert "is not a project" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_the_labs_own_checkout_installs_itself(tmp_path, monkeypatch):
    folder = tmp_path / "my-lab"
    init(folder, "github")
    monkeypatch.setattr(resources, "root", lambda: folder)
    init(folder, "gitlab")
    lines = {
        line.strip(" -")
        for place in PLACES.values()
        for line in (folder / place).read_text().splitlines()
        if "pip install" in line
    }
    assert lines == {".venv/bin/pip install vfio-lab", ".venv/bin/pip install -e ."}
