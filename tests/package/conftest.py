"""An environment with nothing in it but the wheel and what it declares that it needs."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from vfio_lab.util import resources

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq")


class Environment:
    """A Python environment of its own."""

    def __init__(self, folder):
        self.bin = folder / "bin"

    def __call__(self, *words, cwd, code=0, **variables):
        """Run one of its commands in a folder and return what it said."""
        done = subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=cwd,
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    subprocess.run([*PIP, *build, resources.root()], check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def installed(tmp_path_factory, wheel):
    """An environment with the wheel installed, and nothing of this checkout in reach."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    where = ("--python", folder / "bin/python", "install")
    subprocess.run([*PIP, *where, wheel], check=True)
    return Environment(folder)


@pytest.fixture
def pip():
    """The command that installs without a word."""
    return PIP


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to stand in, and a state folder beside it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("VFIO_LAB_PROJECT", raising=False)
    folder = Path(tmp_path / "empty")
    folder.mkdir()
    return folder
