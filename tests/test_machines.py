"""Workers of other machines: where they leave what they found."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vfio_lab_pytest import guests


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"popen": True, "chdir": None}, "/here/run"),
        ({"popen": True, "chdir": "elsewhere"}, "run"),
        ({"popen": None, "chdir": None}, "run"),
    ],
    ids=["a process of ours", "in another folder", "on another machine"],
)
def test_a_worker_elsewhere_has_a_folder_of_the_same_name(monkeypatch, spec, expected):
    monkeypatch.setattr(guests, "run_folder", lambda _config: Path("/here/run"))
    gateway = SimpleNamespace(spec=SimpleNamespace(**spec))
    node = SimpleNamespace(config=None, gateway=gateway, workerinput={})
    guests.pytest_configure_node(node)
    assert node.workerinput == {"lab_run": expected}


def test_a_worker_puts_the_folder_below_its_own_artifacts(tmp_path):
    options = {"--lab-artifacts": tmp_path}
    config = SimpleNamespace(
        stash=pytest.Stash(), getoption=options.get, workerinput={"lab_run": "run"}
    )
    assert guests.run_folder(config) == tmp_path / "run"
    config.stash, config.workerinput["lab_run"] = pytest.Stash(), "/here/run"
    assert guests.run_folder(config) == Path("/here/run")
