"""A first verdict on a distribution's kernel, while the kernel that a run asks for is compiled."""

from __future__ import annotations

import collections
import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rich.text import Text

from vfio_lab.campaign.report_log import RunProgress, follow_reports
from vfio_lab.campaign.results import Outcome
from vfio_lab.campaign.runs import PYTEST
from vfio_lab.kernels import distribution, kconfig
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.spec.scenarios import FOLDER, PROJECT
from vfio_lab.util import host, progress
from vfio_lab.util.cache import Cache
from vfio_lab.util.process import GUARD, LAST_WORDS_S, environment, yielding

SHOWN = FOLDER / "vf_token" / "test_match.py"
WORKERS = 2
IMAGE = (sys.executable, "-P", "-c", "from vfio_lab.cli import main; main()", "image", "build")
# What scenarios ask a kernel for and distributions often leave out.
OPTIONAL = ("VFIO_NOIOMMU", "IOMMUFD", "VFIO_DEVICE_CDEV")


@dataclass
class FirstLook:
    """What the scenarios of a first look have shown so far.

    Args:
        kernel: the name of the distribution's kernel.
        wanted: the name of the kernel that is compiled meanwhile.
    """

    kernel: str
    wanted: str
    started: float = field(default_factory=time.monotonic)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def note(self, nodeid: str, outcome: Outcome) -> None:
        """Record a scenario's end; say so if it is the first one that passed."""
        first = outcome is Outcome.PASSED and outcome not in self.outcomes.values()
        self.outcomes[nodeid] = outcome
        if first:
            after = progress.duration(time.monotonic() - self.started)
            say(f"First verdict after {after}, on kernel {self.kernel}: passed {nodeid}")

    def conclusion(self, options: Mapping[str, str]) -> str:
        """Return what was shown, and what this kernel cannot show.

        Args:
            options: the configuration of the distribution's kernel.
        """
        counts = collections.Counter(one.value for one in self.outcomes.values())
        shown = ", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing yet"
        lacking = [name for name in OPTIONAL if options.get(name, "n") == "n"]
        without = f" It has no {', no '.join(lacking)}." if lacking else ""
        where = SHOWN.relative_to(FOLDER)
        return (
            f"{where} on kernel {self.kernel}: {shown}.{without}"
            f" Every verdict of this run will be of kernel {self.wanted}."
        )


def say(line: str) -> None:
    """Print a permanent line beside the progress of what is built."""
    progress.display().say(Text(line))


def kernel_to_look_at() -> str:
    """Return the name of the host's own distribution's kernel, else of the first known one."""
    known = list(distribution.distribution_catalogue())
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        own = f"{release['ID']}/{release.get('VERSION_CODENAME')}"
        return own if own in known else known[0]
    return known[0]


@contextlib.contextmanager
def first_look(wanted: str, cache: Cache, folder: Path) -> Iterator[None]:
    """Run a few scenarios on a distribution's kernel while the body compiles another one.

    The body's end is the end of the look: what is not shown by then is not shown.

    Args:
        wanted: the name of the kernel that the body compiles.
        cache: where kernels are.
        folder: where evidence and log of the look go.
    """
    if host.missing("distribution"):
        yield
        return
    look = FirstLook(kernel_to_look_at(), wanted)
    say(
        f"Kernel {wanted} has to be compiled, once. Meanwhile {SHOWN.relative_to(FOLDER)} runs on"
        f" kernel {look.kernel}, which the distribution compiled."
    )
    with _scenarios_of(look, folder):
        yield
    kernel = distribution.find_distribution_kernel(look.kernel, cache)
    say(look.conclusion(_options(kernel)))


def _options(kernel: Kernel | None) -> Mapping[str, str]:
    if kernel is None:
        return dict.fromkeys(OPTIONAL, "y")  # it could not be had, so nothing is known of it
    return kconfig.read_config(kernel.config.read_text())


@contextlib.contextmanager
def _scenarios_of(look: FirstLook, folder: Path) -> Iterator[None]:
    """Run the scenarios of a look in a process of their own until the body ends.

    Their image is built beside the fetch of their kernel. The body's tools yield to both.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        (folder / "pytest.log").open("wb") as log,
        follow_reports(RunProgress(progress.Task("", None), 0, look.note)) as reports,
    ):
        words = ["--lab-kernel", look.kernel, "--lab-artifacts", os.fspath(folder)]
        words += ["-n", str(WORKERS), f"--report-log={reports}", os.fspath(SHOWN)]
        image = _started(IMAGE, log)
        run = _started([*PYTEST, *words], log)
        try:
            with yielding():
                yield
        finally:
            _end(run)
            _end(image)


def _started(command: Sequence[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*GUARD, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=PROJECT,
        env=environment(),
        start_new_session=True,
    )


def _end(run: subprocess.Popen[bytes]) -> None:
    """End what still runs, politely at first."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(LAST_WORDS_S)
