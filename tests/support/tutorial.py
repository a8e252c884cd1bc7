"""A page of the documentation, typed: what it shows, in a checkout of its own."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from vfio_lab.kernels import ktree, packaged
from vfio_lab.util.cache import Cache

TUTORIAL, REVIEW = "tutorial.md", "review.md"
BLOCK = re.compile(r'^```(?:console|\w+ title="([^"\n]+)")\n(.*?)^```$', re.M | re.S)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.M)
# What only the first who comes along sees: a template is frozen once.
ONCE = re.compile(r"Freezing [^\n]*\n")
KERNEL = re.compile(r"(?:--lab-kernel|vfio-lab matrix) (\S+)")
# What a checkout has that the page needs; what runs left in it is none of that.
PARTS = ("conftest.py", "pyproject.toml", "docs", "fixtures", "images", "lab", "scenarios")
END = "\x1e"
TERMINAL = {"COLUMNS": "80", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
# A reader has none of pytest's own; and in CI, which these tell it of, pytest shortens nothing.
NOT_TYPED = ("PYTEST", "CI", "BUILD_NUMBER")
TIMEOUT_S = 600
ANYTHING = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Step:
    """One command of the page.

    Args:
        command: as it is typed.
        prints: what the page shows; `...` stands for anything.
    """

    command: str
    prints: str

    def shown(self, seen: str) -> bool:
        """Return whether that is what the page shows."""
        # At the beginning `...` also stands for no line at all: a second run has less to say.
        prints = re.sub(r"\A\.\.\.\s+", "...", self.prints)
        return doctest.OutputChecker().check_output(prints, ONCE.sub("", seen), ANYTHING)

    def wants_kernel(self) -> str | None:
        """Return the kernel that it names, if that would have to be built first."""
        named = KERNEL.search(self.command)
        missing = (
            named is not None and packaged.find_packaged_kernel(named[1], Cache.default()) is None
        )
        return named[1] if named and missing else None


class Page:
    """A page, and a checkout to follow it in.

    Args:
        checkout: a folder with the documentation in it.
        name: the file of the page.
    """

    def __init__(self, checkout: Path, name: str) -> None:
        self.checkout = checkout
        self.steps: list[Step] = []
        for file, text in BLOCK.findall((checkout / "docs" / name).read_text()):
            if file:
                (checkout / file).write_text(text)
            self.steps += [] if file else [Step(*found) for found in COMMAND.findall(text)]

    def follow(self) -> None:
        """Type all commands into one shell; none may print what the page does not show."""
        missing = {step: step.wants_kernel() for step in self.steps}
        typed = [step for step in self.steps if missing[step] is None]
        for step, seen in zip(typed, self._type(typed), strict=True):
            assert step.shown(seen), f"$ {step.command}\n{seen}\nbut the page shows\n{step.prints}"
        if any(missing.values()):
            pytest.skip(f"all but what needs kernel {', '.join(filter(None, missing.values()))}")

    def _type(self, steps: list[Step]) -> list[str]:
        ours = {key: value for key, value in os.environ.items() if not key.startswith(NOT_TYPED)}
        script = "\n".join(f"{step.command}\nprintf '{END}'" for step in steps)
        roots = os.pathsep.join(str(self.checkout / name) for name in ("lab", "fixtures"))
        done = subprocess.run(
            ["bash", "-c", script],  # noqa: S607 - as a reader has it
            cwd=self.checkout,
            env={
                **ours,
                **TERMINAL,
                "PYTHONPATH": roots,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return done.stdout.split(END)[:-1]


@pytest.fixture
def checkout(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """A checkout that nobody has touched."""
    checkout = tmp_path / "vfio-lab"
    checkout.mkdir()
    for part in PARTS:
        source = pytestconfig.rootpath / part
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, checkout / part, ignore=unwanted)
        else:
            shutil.copy(source, checkout)
    (checkout / ".venv").symlink_to(sys.prefix)
    return checkout


@pytest.fixture
def tutorial(checkout: Path) -> Page:
    """The tutorial."""
    return Page(checkout, TUTORIAL)


@pytest.fixture
def review_page(checkout: Path) -> Page:
    """The page of a reviewer; skip where its kernels would have to be built first."""
    cache = Cache.default().open()
    if not list((cache.root / ktree.KIND).glob(f"*/{ktree.READY}")):
        pytest.skip("needs the built source tree of kernel 7.3, which `vfio-lab try` makes")
    page = Page(checkout, REVIEW)
    if missing := list(filter(None, (step.wants_kernel() for step in page.steps))):
        pytest.skip(f"needs kernel {missing[0]}")
    return page
