"""Ctrl-C in the steps of `try` and `bisect`, and input that they cannot use."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.support.command import INTERRUPTIBLE, vfio_lab
from tests.support.repositories import fingerprint

from vfio_lab.campaign import mutants
from vfio_lab.cli import INTERRUPTED
from vfio_lab.kernels import gittree, ktree
from vfio_lab.util.cache import Cache

SCENARIO = "scenarios/vf_token/test_match.py::test_pf_without_vf_users_opens_without_a_token"
# A step that ends within two seconds says nothing, so nobody can press Ctrl-C in it.
LONG = SCENARIO.partition("::")[0]
FAULT = mutants.FOLDER / "7.3" / "token-wrong-errno.patch"
BROKEN = "init: Break the build"


def interrupted(step: str, *words: str | Path) -> tuple[int, str]:
    """Press Ctrl-C when a step begins; return the exit code and what was said."""
    command, said = [*INTERRUPTIBLE, *map(str, words)], ""
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if line.startswith(step):
                os.killpg(process.pid, signal.SIGINT)
                break
        else:
            pytest.fail(f"{step!r} never began: {said}")
        said += process.stderr.read()
    return process.returncode, said


@pytest.fixture(scope="module")
def good(repository: Path) -> str:
    """The commit before the one that breaks the build."""
    words = ("log", "--format=%H", "-1", f"--grep={BROKEN}")
    return gittree.git(repository, *words).strip() + "~"


@pytest.mark.parametrize("step", ["Compiling", "Running scenarios"])
def test_a_trial_ends_in_any_step(
    cache: Cache, repository: Path, good: str, tmp_path: Path, step: str
) -> None:
    patch, before = tmp_path / "fault.patch", fingerprint(repository)
    patch.write_text(FAULT.read_text().replace("EPERM", str(time.time_ns() % 10**6)))
    words = ("-C", repository, patch, "--on", good, LONG)
    code, said = interrupted(step, "try", *words)
    assert (code, "Traceback" in said) == (INTERRUPTED, False), said
    assert fingerprint(repository) == before
    branches = (cache.root / ktree.BRANCHES).iterdir()
    owners = [path.name.lstrip(".").partition("-")[0] for path in branches]
    assert [pid for pid in owners if not Path("/proc", pid).exists()] == []
    assert vfio_lab("try", *words).returncode == 1


def test_a_bisection_ends_in_the_middle(cache: Cache, repository: Path) -> None:
    before = fingerprint(repository)
    first = gittree.git(repository, "rev-list", "--max-parents=0", "HEAD").strip()
    words = ("--good", first, "--bad", "HEAD", repository, SCENARIO)
    code, said = interrupted("Bisecting", "bisect", *words)
    assert (code, "Traceback" in said) == (INTERRUPTED, False), said
    assert fingerprint(repository) == before
    assert list(cache.root.glob("checkout/*/linux/.git/BISECT_START")) == []


def test_a_base_that_does_not_build_is_named(repository: Path, good: str) -> None:
    before = fingerprint(repository)
    done = vfio_lab("try", FAULT, "--on", f"{repository}@{good[:-1]}", SCENARIO)
    assert done.returncode == 125
    assert "does not compile" in done.stderr
    assert "init/main.c" in done.stderr
    assert fingerprint(repository) == before


def test_a_range_from_elsewhere_is_a_mistake(repository: Path) -> None:
    done = vfio_lab("try", "-C", repository, "v9.9..HEAD", SCENARIO)
    assert done.returncode == 2
    assert "has no commit v9.9" in done.stderr


def test_a_series_for_a_file_that_the_base_lacks_names_it(tmp_path: Path) -> None:
    patch = tmp_path / "absent.patch"
    patch.write_text(FAULT.read_text().replace("vfio_pci_core.c", "vfio_pci_absent.c"))
    done = vfio_lab("try", patch, "--on", "7.3", SCENARIO)
    assert done.returncode == 125
    assert "7.3 has no drivers/vfio/pci/vfio_pci_absent.c" in done.stderr


def test_an_unknown_scenario_is_refused_before_a_build(repository: Path) -> None:
    done = vfio_lab("bisect", "--good", "HEAD~", "--bad", "HEAD", repository, f"{SCENARIO}_not")
    assert done.returncode == 2
    assert "no scenario" in done.stderr
    assert "Compiling" not in done.stderr
