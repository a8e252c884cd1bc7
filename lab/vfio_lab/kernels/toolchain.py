"""The compiler for an architecture, which is a cross compiler for all but the host's."""

from __future__ import annotations

import subprocess

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.util import host
from vfio_lab.util.process import environment


def compiler(architecture: Architecture = X86_64) -> str:
    """Return the first line of `--version` of the compiler for an architecture."""
    return _output_of(f"{host.cross(architecture)}gcc", "--version").splitlines()[0]


def make_words(architecture: Architecture) -> list[str]:
    """Return what tells kbuild which compiler to use, through ccache if there is one."""
    cross = host.cross(architecture)
    gcc = f"{cross}gcc"
    words = [f"CC={gcc}" if host.which("ccache") is None else f"CC=ccache {gcc}"]
    if cross:
        words += [f"ARCH={architecture.kernel}", f"CROSS_COMPILE={cross}"]
    return words


def _output_of(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    return done.stdout
