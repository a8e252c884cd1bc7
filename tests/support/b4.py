"""The b4 of the package registry: fetched once, kept in the lab's cache, never installed."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_lab.util.cache import Cache
from vfio_lab.util.host import which

B4 = "b4[tui]==0.16.0"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "install")
REVIEW = Path(__file__).with_name("b4_review.py")
CHANGE_ID = "20261129-token"


@pytest.fixture(scope="session")
def b4():
    """The folder with b4 and what it needs, for PYTHONPATH."""

    def fetch(scratch):
        # dkimpy has no wheel, so this is not part of the lab's own environment.
        command = [*PIP, "--no-compile", "--target", scratch / "python", B4]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs {B4} of the package registry: {done.stderr.splitlines()[-1]}")

    return (
        Cache.default().open().obtain("b4", f"{B4[-6:]}-{sys.version_info.minor}", fetch) / "python"
    )


class Repository:
    """A kernel repository with the review of a series in it.

    Args:
        folder: an empty folder.
        content: of the files, by path.
    """

    def __init__(self, folder, content):
        self.folder = folder
        self.git("init", "-q", "-b", "master")
        for key, value in (("user.name", "A Reviewer"), ("user.email", "reviewer@invalid")):
            self.git("config", key, value)
        self.commit("Linux, as packaged", content)

    def git(self, *words):
        return subprocess.run(
            [which("git"), *words], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout

    def commit(self, subject, content):
        for path, text in content.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)

    def mails(self, *, cover):
        """Return the mailbox of what is on `topic`; FETCH_HEAD is its tip, as after b4's fetch."""
        words = ("--cover-letter",) if cover else ()
        made = self.folder.parent / "series.mbox"
        made.write_text(self.git("format-patch", *words, "--thread", "--stdout", "master..topic"))
        self.git("checkout", "-q", "master")
        self.git("fetch", "-q", ".", "topic")
        return made

    def review(self, b4, mailbox, *words):
        """Return what b4 shows of the checks of a series, `vfio-lab check` with words for it."""
        command = [Path(sys.executable).with_name("vfio-lab"), "check", *words]
        self.git("config", "b4.review-series-check-cmd", shlex.join(map(str, command)))
        state = self.folder.parent / "state"
        folders = {f"XDG_{kind}_HOME": str(state) for kind in ("DATA", "CONFIG", "STATE")}
        done = subprocess.run(
            [sys.executable, "-P", REVIEW, mailbox, "master", CHANGE_ID],
            cwd=self.folder,
            env={**os.environ, **folders, "PYTHONPATH": str(b4)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])
