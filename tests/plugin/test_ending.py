"""How a run ends in which nothing can be judged, and how the lab's own errors are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_lab.util import resources

pytest_plugins = ["pytester"]

PLAIN_PYTEST = ("pytest", "py.py", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
LATE = """
from vfio_lab.errors import DeadlineExceeded

def answer():
    try:
        try:
            raise TimeoutError("from asyncio, say")
        except TimeoutError as error:
            raise OSError("in between") from error
    except OSError as error:
        raise DeadlineExceeded("QEMU's monitor did not answer stop", guest="it") from error

@pytest.fixture
def stopped():
    answer()

def test_in_call(guest):
    answer()

def test_in_setup(stopped):
    pass
"""


def test_the_labs_own_error_is_one_block_with_the_reason_first(run):
    result = run(LATE)
    result.assert_outcomes(failed=1, errors=1)
    said = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "*_ test_in_call _*",
            "DeadlineExceeded: QEMU's monitor did not answer stop",
            "  guest: it",
            "  hint: *",
            "scenarios/test_it.py:*: in test_in_call",
            "    answer()",
        ],
    )
    assert "from asyncio" not in said
    assert "direct cause" not in said
    result.stdout.fnmatch_lines(["FAILED *test_in_call - DeadlineExceeded: QEMU's monitor *"])


def test_the_chain_is_there_on_request(run):
    said = run(LATE, "--lab-traceback").stdout.str()
    assert "from asyncio" in said
    assert "direct cause" in said


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_usage_error_is_told_as_pytest_tells_them(run, workers):
    result = run("def test_it(guest):\n    pass", "--lab-pf", "01:00.0", "-n", workers)
    assert result.ret == 2
    result.stderr.fnmatch_lines(["ERROR: --lab-host and --lab-pf go together: *", "  hint: *"])
    assert "Exit" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("path", ["scenarios", "tests/test_cli.py"])
def test_the_pytest_of_another_environment_is_told_so_in_one_line(tmp_path, path):
    packages = Path(pytest.__file__).parents[1]
    for name in PLAIN_PYTEST:
        (tmp_path / name).symlink_to(packages / name)
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-m", "pytest", path],
        cwd=resources.root(),
        env={**plain, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "ERROR: this pytest has no plugin vfio-lab: run `make setup`, then .venv/bin/pytest\n"
    )


PASSES = "def test_it(guest):\n    pass"
DIES_ONCE = """\
#!/bin/sh
mkdir {once} 2>/dev/null && exit 1
exec {python} "$@"
"""


def test_a_worker_that_is_killed_while_it_starts_is_started_again(run, tmp_path):
    python = tmp_path / "python"
    python.write_text(DIES_ONCE.format(once=tmp_path / "once", python=sys.executable))
    python.chmod(0o755)
    result = run(PASSES, "--dist=load", f"--tx=2*popen//python={python}", apart=True)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert (tmp_path / "once").is_dir()


def test_workers_that_cannot_start_are_told_in_one_line(run):
    result = run(PASSES, "--dist=load", "--tx=2*popen//python=false", apart=True)
    assert result.ret == 125
    result.stderr.fnmatch_lines(["ERROR: a worker died 3 times while it started: *python=false*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
