"""The agent as a program: static, so that it runs in any image and on any machine of its kind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from vfio_lab.errors import HostError
from vfio_lab.util import host, resources
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.process import pipeline

SOURCES = resources.PACKAGE / "agent/src"
COMPILER = "gcc"
WARNINGS = ("-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")
STATIC = ("-O2", "-static", "-s", "-Wl,--build-id=none")
KIND = "agent"
NAME = "agent"


def build_agent(cache: Cache, flags: tuple[str, ...] = STATIC) -> Path:
    """Return the program, compiling it if the cache lacks it.

    Args:
        cache: where it is kept; one that was compiled elsewhere serves a host without a compiler.
        flags: how to compile and link it.

    Raises:
        HostError: there is neither a compiler nor a compiled agent.
        BuildError: it does not compile.
    """
    names = sorted(path.name for path in SOURCES.iterdir())
    texts = {name: (SOURCES / name).read_text() for name in names}
    source = digest({"texts": texts, "flags": [*WARNINGS, *flags]})[:16]
    compiler = _compiler()
    if compiler is None:
        return _compiled_elsewhere(cache, source)
    key = f"{source}-{digest(compiler)[:8]}"

    def compile_(scratch: Path) -> None:
        units = [name for name in names if name.endswith(".c")]
        command = [COMPILER, *WARNINGS, *flags, *units, "-o", os.fspath(scratch / NAME)]
        log = cache.root / "logs" / f"agent-{key}.log"
        pipeline("compile the agent", command, log=log, cwd=SOURCES)

    return cache.obtain(KIND, key, compile_) / NAME


def _compiler() -> str | None:
    """Return what the compiler calls itself, None if this host has none that can link."""
    if host.missing(KIND):
        return None
    command = [COMPILER, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _compiled_elsewhere(cache: Cache, source: str) -> Path:
    for key in cache.keys(KIND):
        if key.startswith(f"{source}-") and (entry := cache.find(KIND, key)) is not None:
            return entry / NAME
    lacking = host.missing(KIND)
    raise HostError(
        "there is no agent for guests, and no way to compile it",
        expected="a C compiler with the C library's static half, or a cache that has the agent",
        seen=f"no {', '.join(tool.name for tool in lacking)}",
        hint=host.install_command(tool.name for tool in lacking),
    )
