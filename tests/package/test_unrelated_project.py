"""A project that has nothing to do with the lab, in an environment where the lab is installed."""

import json

import pytest

TEST = """
import json
import sys

import pytest

@pytest.fixture
def guest():
    return "somebody"

def test_it(guest, pytestconfig):
    assert guest == "somebody"
    loaded = sorted(name for name in sys.modules if name.startswith("vfio_lab"))
    (pytestconfig.rootpath / "loaded.json").write_text(json.dumps(loaded))
"""
LIGHT = {
    "vfio_lab_pytest",
    *(f"vfio_lab_pytest.{name}" for name in ("ending", "options", "plugin", "recognition")),
}
USES = {
    "argument": "def test_it(pf_user, pf):\n    pass\n",
    "second line": "def test_it(\n    other_vf: object,\n):\n    pass\n",
    "import": "from vfio_lab_pytest.claims import claim\n\ndef test_it(guest):\n    pass\n",
}
QUIET = ("-p", "no:cacheprovider", "--strict-markers")


@pytest.fixture
def unrelated(elsewhere):
    (elsewhere / "test_theirs.py").write_text(TEST)
    return elsewhere


@pytest.mark.parametrize("extra", [(), ("-n", "1"), ("-p", "no:vfio-lab")], ids=" ".join)
def test_the_plugin_says_nothing_and_loads_nothing_of_the_lab(installed, unrelated, extra):
    said = installed("pytest", *QUIET, *extra, cwd=unrelated)
    assert "1 passed" in said
    assert not [line for line in said.splitlines() if "lab" in line and "plugins:" not in line]
    loaded = set(json.loads((unrelated / "loaded.json").read_text()))
    assert loaded == (set() if "no:vfio-lab" in extra else LIGHT)
    assert {path.name for path in unrelated.iterdir()} <= {
        "test_theirs.py",
        "loaded.json",
        "__pycache__",
    }


@pytest.mark.parametrize("source", USES.values(), ids=USES)
@pytest.mark.parametrize("extra", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_module_that_uses_the_lab_finds_its_fixtures(installed, elsewhere, source, extra):
    (elsewhere / "test_mine.py").write_text(source)
    said = installed("pytest", *QUIET, "--setup-plan", *extra, cwd=elsewhere)
    assert "fixture 'guest' not found" not in said
    assert "not found" not in said
