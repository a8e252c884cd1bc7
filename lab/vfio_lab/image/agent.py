"""The agent as a program: static, so that it runs in any image and on any machine of its kind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from vfio_lab.arch import X86_64, Architecture
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


def build_agent(
    cache: Cache, flags: tuple[str, ...] = STATIC, architecture: Architecture = X86_64
) -> Path:
    """Return the program, compiling it if the cache lacks it.

    Args:
        cache: where it is kept; one that was compiled elsewhere serves a host without a compiler.
        flags: how to compile and link it.
        architecture: what it runs on.

    Raises:
        HostError: there is neither a compiler nor a compiled agent.
        BuildError: it does not compile.
    """
    names = sorted(path.name for path in SOURCES.iterdir())
    texts = {name: (SOURCES / name).read_text() for name in names}
    inputs: dict[str, object] = {"texts": texts, "flags": [*WARNINGS, *flags]}
    if architecture != X86_64:
        inputs["architecture"] = architecture.name
    source = digest(inputs)[:16]
    gcc = f"{host.cross(architecture)}{COMPILER}"
    compiler = _compiler(gcc)
    if compiler is None:
        return _compiled_elsewhere(cache, source, gcc)
    key = f"{source}-{digest(compiler)[:8]}"

    def compile_(scratch: Path) -> None:
        units = [name for name in names if name.endswith(".c")]
        command = [gcc, *WARNINGS, *flags, *units, "-o", os.fspath(scratch / NAME)]
        log = cache.root / "logs" / f"agent-{key}.log"
        pipeline("compile the agent", command, log=log, cwd=SOURCES)

    return cache.obtain(KIND, key, compile_) / NAME


def _compiler(gcc: str) -> str | None:
    """Return what the compiler calls itself, None if this host has none that can link."""
    if _lacking(gcc):
        return None
    command = [gcc, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _lacking(gcc: str) -> list[str]:
    tools = [tool.name for tool in host.missing(KIND)]
    return tools + [gcc] * (host.which(gcc) is None and gcc not in tools)


def _compiled_elsewhere(cache: Cache, source: str, gcc: str) -> Path:
    for key in cache.keys(KIND):
        if key.startswith(f"{source}-") and (entry := cache.find(KIND, key)) is not None:
            return entry / NAME
    lacking = _lacking(gcc)
    raise HostError(
        "there is no agent for guests, and no way to compile it",
        expected="a C compiler with the C library's static half, or a cache that has the agent",
        seen=f"no {', '.join(lacking)}",
        hint=host.install_command(lacking),
    )
