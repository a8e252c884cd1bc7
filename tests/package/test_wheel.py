"""The lab as people install it: a wheel, used in an empty folder and in a project of theirs."""

import re

import pytest

import vfio_lab
from vfio_lab.util import resources

SCENARIO = "test_vf_opens_with_the_token_its_pf_user_set"
FILE = "scenarios/vf_token/test_match.py"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--version",), vfio_lab.__version__),
        (("doctor",), "the lab can run here"),
        (("kernel", "list"), "7.3"),
        (("image", "show"), "python3"),
        (("topology", "show", "igb"), "pf0"),
        (("claims",), f"{FILE}::{SCENARIO}"),
        (("mutate", "--help"), "FAULT"),
        (("run", "igb", "--", "lspci"), "82576"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands_work_in_an_empty_folder_and_leave_nothing(installed, elsewhere, words, said):
    assert said in installed("vfio-lab", *words, cwd=elsewhere)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("place", ["vfio_lab.scenarios", "vfio_lab.scenarios.vf_token.test_match"])
def test_scenarios_have_the_same_ids_however_they_are_asked_for(installed, elsewhere, place):
    options = ("-p", "no:cacheprovider", "-q", "--collect-only", "-k", SCENARIO)
    said = installed("pytest", "--pyargs", place, *options, cwd=elsewhere)
    assert f"{FILE}::{SCENARIO}[group]" in said.splitlines()


def test_a_scenario_of_the_labs_runs_and_its_evidence_is_in_the_state_folder(installed, elsewhere):
    place = f"vfio_lab.scenarios.vf_token.test_match::{SCENARIO}"
    said = installed("pytest", "-p", "no:cacheprovider", "--pyargs", place, cwd=elsewhere)
    kept = elsewhere.parent / "state/vfio-lab/evidence"
    assert "2 passed" in said
    assert f"vfio-lab evidence: {kept}" in said
    assert len(list(kept.glob("*/*/transcript.log"))) == 2
    assert list(elsewhere.iterdir()) == []
    assert "7.3 passed" in installed("vfio-lab", "claims", "--area", "vf_token", cwd=elsewhere)


def test_a_project_that_init_makes_proves_its_claim(installed, elsewhere):
    installed("vfio-lab", "init", "my-lab", cwd=elsewhere)
    project = elsewhere / "my-lab"
    ci = project / ".ci/run"
    assert "2 passed" in installed(ci, cwd=project, VENV=str(installed.bin.parent))
    said = installed("vfio-lab", "claims", "--area", "my_lab", cwd=project)
    assert "MYL01" in said
    assert "7.3 passed" in said
    assert "nic0" in installed("vfio-lab", "topology", "show", "my-lab", cwd=project / "scenarios")
    assert "MYL01" in installed("vfio-lab", "matrix", "7.3", cwd=project)
    assert {path.name for path in (project / ".artifacts").iterdir()} >= {"verdicts.json"}
    assert not (elsewhere.parent / "state").exists()


def test_what_the_page_adds_to_the_project_runs(installed, elsewhere):
    page = (resources.root() / "docs/project.md").read_text()
    blocks = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    installed("vfio-lab", "init", "my-lab", cwd=elsewhere)
    for name, text in blocks:
        with (elsewhere / "my-lab" / name).open("a") as file:
            file.write(f"\n\n{text}")
    said = installed("pytest", "scenarios/test_edu.py", cwd=elsewhere / "my-lab")
    assert "1 passed" in said


def test_init_leaves_a_folder_that_holds_something_alone(installed, elsewhere):
    (elsewhere / "mine").touch()
    assert "is not empty" in installed("vfio-lab", "init", ".", cwd=elsewhere, code=2)
    assert "makes no name" in installed("vfio-lab", "init", "7", cwd=elsewhere, code=2)
