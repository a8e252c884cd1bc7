"""What the library logs is shown where its progress is, and it prints nothing itself."""

import ast
import io
import logging
from pathlib import Path

import pytest

import vfio_lab
from vfio_lab.util import progress
from vfio_lab.util.messages import LIBRARY, show_log

PACKAGE = Path(vfio_lab.__file__).parent
# Commands print, the agent is a program of its own, and a prompt answers.
PRINTERS = {"cli", "agent", "interactive"}


@pytest.fixture
def shown(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "display", lambda: progress.Lines(stream))
    return stream


def test_what_the_library_logs_is_shown_once(shown):
    show_log()
    show_log()
    log = logging.getLogger(f"{LIBRARY}.campaign.bisection")
    log.debug("not this")
    log.info("step %d of about %d", 1, 3)
    assert shown.getvalue() == "step 1 of about 3\n"


def printed(path):
    """Return the lines at which a module prints."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"print", "sys.stdout.write", "sys.stderr.write"} or "echo" in called:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_the_library_prints_nothing():
    modules = [
        path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in PRINTERS
    ]
    assert [place for path in modules for place in printed(path)] == []
