"""What people see while scenarios run, and what Ctrl-C leaves: real runs, a terminal each."""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vfio_lab
from vfio_lab.util.deadline import Deadline

pytest_plugins = ["pytester"]

PROJECT = Path(vfio_lab.__file__).parents[2]
# A run ends in less time than it took to start; a busy host makes both slower. xdist's own
# patience, ten seconds, is five starts where nothing else runs.
MOST_STARTS = 3
PATIENCE_S = 60
ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
CTRL_C = b"\x03"
CONFTEST = """
from pathlib import Path
from types import SimpleNamespace

from vfio_lab.kernels.packaged import Kernel
from vfio_lab_pytest.guests import GUEST_FACTORY

def pytest_configure(config):
    file = Path(__file__)  # stands for image, modules and configuration
    config.stash[GUEST_FACTORY] = SimpleNamespace(
        kernel=Kernel("7.3", "7.3.4-lab", (7, 3, 4), file, file, file, "d"),
        caps=SimpleNamespace(version=(10, 0, 2)),
        accelerator=SimpleNamespace(name="tcg"),
    )
"""
SCENARIOS = """
import time

import pytest

def test_quick():
    pass

def test_broken():
    assert 1 == 2

def test_slow():
    time.sleep({slow})

@pytest.mark.skip(reason="not here")
def test_skipped():
    pass
"""


class Terminal:
    """A run on a pseudo-terminal.

    Args:
        arguments: of pytest.
    """

    def __init__(self, *arguments):
        self.raw, (self.side, theirs) = "", os.openpty()
        # A session of its own with this terminal, so that Ctrl-C reaches it, and only it; what runs
        # in the background of a script ignores it, and its children would too.
        command = ["env", "--default-signal=INT", "setsid", "--ctty", "--wait"]
        command += [sys.executable, "-m", "pytest"]
        with open(theirs, "r+b", buffering=0) as stream:  # noqa: PTH123 - a descriptor, not a path
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=stream,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            )

    def read(self):
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while data := self.next():
                self.raw += data.decode(errors="replace")
                yield self.text
        assert self.process.wait(PATIENCE_S) is not None

    def next(self):
        ready, _, _ = select.select([self.side], [], [], PATIENCE_S)
        assert ready, f"nothing for {PATIENCE_S} s: {self.text}"
        return os.read(self.side, 65536)

    @property
    def text(self):
        return ESCAPE.sub("", self.raw)

    def until(self, words):
        deadline = Deadline.after(PATIENCE_S)
        assert any(words in text or deadline.passed for text in self.read())
        assert words in self.text, self.text

    def to_its_end(self):
        for _text in self.read():
            pass
        os.close(self.side)
        return self.text


@pytest.fixture
def scenarios(pytester, monkeypatch):
    """Write the scenarios; return what runs them."""
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    pytester.makeini(
        "[pytest]\naddopts = -p no:cacheprovider -p no:randomly -p no:hypothesispytest\n"
    )
    pytester.makeconftest(CONFTEST)

    def write(slow):
        pytester.makepyfile(test_it=SCENARIOS.format(slow=slow))

    return write


@pytest.mark.parametrize("spread", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_terminal_shows_how_far_it_is(scenarios, spread):
    scenarios(slow=1)
    terminal = Terminal(*spread)
    text = terminal.to_its_end()
    assert "of 4 scenarios, 1 passed" in text
    assert "s  -             test_it.py::test_slow" in text
    assert "FAILED test_it.py::test_broken\r\n" in text
    assert "1 failed, 2 passed, 1 skipped in " in text
    assert "\n.F" not in text
    assert "100%" not in text
    assert terminal.raw.count("\x1b[?25l") == terminal.raw.count("\x1b[?25h") == 1
    assert terminal.process.returncode == 1


@pytest.mark.parametrize("wish", ["-v", "-q", "-s"])
def test_who_wants_another_view_gets_it(scenarios, wish):
    scenarios(slow=0)
    text = Terminal(wish).to_its_end()
    assert "of 4 scenarios" not in text
    assert "1 failed, 2 passed, 1 skipped in " in text


def test_a_log_gets_plain_lines(scenarios, pytester):
    scenarios(slow=0)
    result = pytester.runpytest_subprocess()
    result.stdout.fnmatch_lines(["test_it.py .F.s * [[]100%]"])
    assert "\x1b" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("spread", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_ctrl_c_ends_it_and_leaves_results_and_report(scenarios, pytester, spread):
    scenarios(slow=3600)
    began = time.monotonic()
    terminal = Terminal(*spread, "--lab-report", "site", "--lab-artifacts", ".artifacts")
    terminal.until("FAILED")
    terminal.until("test_slow")
    pressed = time.monotonic()
    os.write(terminal.side, CTRL_C)
    text = terminal.to_its_end()
    assert time.monotonic() - pressed < MOST_STARTS * (pressed - began)
    assert "KeyboardInterrupt" in text
    (path,) = pytester.path.glob(".artifacts/*/results.json")
    found = json.loads(path.read_text())
    ended = {one["nodeid"].partition("::")[2]: one["outcome"] for one in found["scenarios"]}
    assert ended["test_broken"] == "failed"
    assert "test_slow" not in ended
    assert found["exit_code"] == pytest.ExitCode.INTERRUPTED
    assert (pytester.path / "site" / "index.html").is_file()
