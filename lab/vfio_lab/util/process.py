"""Run the tools that build things: everything they say goes to a log, nothing of them stays.

They die with us (PR_SET_PDEATHSIG), and Ctrl-C reaches them through us, so that they are gone
before the half-built thing is deleted.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

from vfio_lab.errors import TAIL_LINES, BuildError, HostError
from vfio_lab.util.deadline import Deadline

LAST_WORDS_S = 15.0
CHUNK_BYTES = 1 << 16
GUARD = ("setpriv", "--pdeathsig", "TERM", "--")
# A user's PATH lacks what Debian keeps for the administrator: depmod, chroot, mke2fs.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which tools speak English and administrator's tools are found.

    Whoever is run by git, as hook or by a bisection, inherits which repository git was looking at.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**ours, "PATH": path, "LC_ALL": "C.UTF-8", **extra}


def pipeline(  # noqa: PLR0913 - all but the first named, and optional
    what: str,
    *stages: Sequence[str],
    log: Path,
    on_line: Callable[[str], None] = lambda _line: None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    accepted: Container[int] = (0,),
) -> int:
    """Run commands, each one's output the next one's input, and return the last one's exit code.

    Args:
        what: the attempt, for the error.
        stages: argument lists.
        log: file for what they write to stderr, and the last one to stdout.
        on_line: called with each line of the log as it comes.
        env: environment, by default `environment()`.
        cwd: folder to run in.
        accepted: exit codes that are no failure.

    Raises:
        BuildError: a command failed.
        HostError: a command is not installed.
    """
    env = environment() if env is None else env
    for stage in stages:
        if shutil.which(stage[0], path=env["PATH"]) is None:
            raise HostError(
                f"cannot {what}", seen=f"no {stage[0]} on the PATH", hint="run `vfio-lab doctor`"
            )
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    children: list[subprocess.Popen[bytes]] = []
    said, saying = os.pipe()
    try:
        try:
            _start(stages, saying, children, env, cwd)
        finally:
            os.close(saying)
        tail = _drain(said, log, on_line)
        codes = [child.wait() for child in children]
    except BaseException:
        _end(children)
        _await_silence(said, Deadline.after(LAST_WORDS_S))
        raise
    finally:
        os.close(said)
    endings = [
        f"{stage[0]} {how_it_ended(code)}"
        for stage, code in zip(stages, codes, strict=True)
        if code not in accepted
    ]
    if endings:
        raise BuildError(f"cannot {what}", seen=", ".join(endings), tail=tail, where=log)
    return codes[-1]


def how_it_ended(code: int) -> str:
    """Return a process's exit code in words."""
    return f"exited with code {code}" if code >= 0 else f"was killed by signal {-code}"


def _start(
    stages: Sequence[Sequence[str]],
    saying: int,
    children: list[subprocess.Popen[bytes]],
    env: Mapping[str, str],
    cwd: Path | None,
) -> None:
    for stage in stages:
        before = children[-1].stdout if children else subprocess.DEVNULL
        last = len(children) == len(stages) - 1
        child = subprocess.Popen(
            [*GUARD, *stage],
            stdin=before,
            stdout=saying if last else subprocess.PIPE,
            stderr=saying,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        children.append(child)
        if not isinstance(before, int) and before is not None:
            before.close()  # else the reader's death would never reach the writer


def _drain(said: int, log: Path, on_line: Callable[[str], None]) -> str:
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with log.open("w") as file, open(said, errors="replace", closefd=False) as lines:
        for line in lines:
            file.write(line)
            tail.append(line)
            on_line(line.rstrip("\n"))
    return "".join(tail)


def _await_silence(said: int, deadline: Deadline) -> None:
    # Killed grandchildren are not ours to wait for, but the last of them closes the log.
    with selectors.DefaultSelector() as ready:
        ready.register(said, selectors.EVENT_READ)
        while ready.select(deadline.remaining_s) and os.read(said, CHUNK_BYTES):
            pass


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    patience = Deadline.after(LAST_WORDS_S)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            # Gone already, or what is left of it runs as another user of its own namespace.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience.remaining_s)
