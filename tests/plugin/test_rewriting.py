"""A failing assert in a helper shows the values that it compared, wherever the helper lies."""

pytest_plugins = ["pytester"]

VERDICT = """
from errno import EACCES, EPERM

from vfio_lab.client.call import Refusal
from vfio_lab_pytest.verdicts import refused

def test_it():
    with refused(EACCES):
        raise Refusal(EPERM, "vf_user", "open", "the VF")
"""
HELPER = "def check(found):\n    assert found == [1, 2]\n"
SCENARIO = "from ours.checks import check\n\n\ndef test_it(pf_user):\n    check([3])\n"


def failure(pytester, test, table=""):
    """Return what a run in a process of its own says of a test that fails."""
    pytester.makepyprojecttoml(f"[tool.vfio-lab]\n{table}")
    pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef pf_user():\n    pass\n")
    pytester.makepyfile(test)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    return result.stdout


def test_an_assert_of_the_plugin_shows_its_values(pytester, monkeypatch):
    """Pytest rewrites the distributions of the plugins that it loads itself."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "vfio_lab_pytest.plugin")
    failure(pytester, VERDICT).fnmatch_lines(["E*assert 1 == 13"])


def test_an_assert_of_a_projects_extension_shows_its_values(pytester):
    package = pytester.mkpydir("ours")
    (package / "checks.py").write_text(HELPER)
    failure(pytester, SCENARIO, 'extensions = ["ours"]').fnmatch_lines(
        ["E*assert [[]3] == [[]1, 2]"]
    )


def test_an_assert_of_an_installed_extension_shows_its_values(pytester, monkeypatch):
    site = pytester.mkdir("site")
    files = {
        "ours/__init__.py": "",
        "ours/checks.py": HELPER,
        "ours-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: ours\nVersion: 1\n",
        "ours-1.dist-info/entry_points.txt": "[vfio_lab]\nours = ours\n",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(site))
    failure(pytester, SCENARIO).fnmatch_lines(["E*assert [[]3] == [[]1, 2]"])
