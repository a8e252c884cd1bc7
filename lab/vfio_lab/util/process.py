"""Run build tools: log their output, and leave no process behind.

Tools are killed when this process dies (PR_SET_PDEATHSIG). They are in sessions of their own, and
on Ctrl-C this process ends them, so that they are gone before the incomplete result is deleted.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path

from vfio_lab.errors import TAIL_LINES, BuildError, HostError
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.files import full

LAST_WORDS_S = 15.0
CHECK_EVERY_S = 1.0
CHUNK_BYTES = 1 << 16
FAILURES_KEPT = 5
GUARD = ("setpriv", "--pdeathsig", "TERM", "--")
# The kernel divides cores among sessions first, then among the processes of each: sched(7).
YIELDING = (
    "sh", "-c", 'echo 10 2>/dev/null >/proc/self/autogroup; exec nice -n 10 "$@"', "sh"
)  # fmt: skip
_prefix: ContextVar[tuple[str, ...]] = ContextVar("_prefix", default=())
# A user's PATH lacks what Debian keeps for the administrator: depmod, chroot, mke2fs.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which messages are English and the sbin folders are on the PATH.

    Variables named GIT_* are removed: a process started by git, as a hook or by `git bisect run`,
    inherits the repository that git works on.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**ours, "PATH": path, "LC_ALL": "C.UTF-8", **extra}


@contextlib.contextmanager
def yielding() -> Iterator[None]:
    """Leave the cores to other work: tools that the body starts get what that does not use."""
    token = _prefix.set(YIELDING)
    try:
        yield
    finally:
        _prefix.reset(token)


def pipeline(  # noqa: PLR0913 - all but the first named, and optional
    what: str,
    *stages: Sequence[str],
    log: Path,
    on_line: Callable[[str], None] = lambda _line: None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    accepted: Container[int] = (0,),
    check: Callable[[], None] = lambda: None,
) -> int:
    """Run commands as a pipeline and return the exit code of the last one.

    Args:
        what: the attempt, for the error.
        stages: argument lists of the commands.
        log: the file for the stderr of all commands and the stdout of the last one.
        on_line: called with each line of the log as it arrives.
        env: environment, by default `environment()`.
        cwd: folder to run in.
        accepted: exit codes that are not failures.
        check: called at least once a second; what it raises ends the commands.

    Raises:
        BuildError: a command failed; names the failed commands in the order they ended.
        HostError: a command is not installed.
    """
    env = environment() if env is None else env
    _require_tools(what, stages, env)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    children: list[subprocess.Popen[bytes]] = []
    links: list[list[int]] = []
    output_read, output_write = os.pipe()
    try:
        try:
            _start(stages, output_write, children, links, env=env, cwd=cwd)
        finally:
            os.close(output_write)
        tail, order = _drain(output_read, log, on_line, children, links, check=check)
        codes = [child.wait() for child in children]
    except BaseException:
        _end(children)
        _await_end_of_output(output_read, Deadline.after(LAST_WORDS_S))
        raise
    finally:
        os.close(output_read)
        for ends in links:
            _close(ends)
    failed = [
        f"{stages[index][0]} {how_it_ended(codes[index])}"
        for index in order
        if codes[index] not in accepted
    ]
    if failed:
        where = _keep_log(log)
        raise BuildError(f"cannot {what}", seen=", then ".join(failed), tail=tail, where=where)
    return codes[-1]


def _require_tools(what: str, stages: Sequence[Sequence[str]], env: Mapping[str, str]) -> None:
    for stage in stages:
        if shutil.which(stage[0], path=env["PATH"]) is None:
            raise HostError(
                f"cannot {what}", seen=f"no {stage[0]} on the PATH", hint="run `vfio-lab doctor`"
            )


def how_it_ended(code: int) -> str:
    """Return the description of a process's exit code."""
    return f"exited with code {code}" if code >= 0 else f"was killed by signal {-code}"


def _start(  # noqa: PLR0913 - what the caller must clean up, and what a stage inherits
    stages: Sequence[Sequence[str]],
    output_write: int,
    children: list[subprocess.Popen[bytes]],
    links: list[list[int]],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
) -> None:
    """Start the stages; append each, and the ends of pipes that it inherits.

    This process holds the ends of a stage until it has seen that stage end. So no other stage can
    notice the end by its pipe, and end in turn, before the order of both is known: the kernel
    closes the files of a dying process earlier than it reports the death (do_exit() in
    kernel/exit.c).
    """
    links.extend([] for _ in stages)
    for before, after in pairwise(links):
        read, write = os.pipe()
        before.append(write)
        after.append(read)
    for index, stage in enumerate(stages):
        first, last = index == 0, index == len(stages) - 1
        child = subprocess.Popen(
            [*GUARD, *_prefix.get(), *stage],
            stdin=subprocess.DEVNULL if first else links[index][0],
            stdout=output_write if last else links[index][-1],
            stderr=output_write,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        children.append(child)


def _close(ends: list[int]) -> None:
    while ends:
        os.close(ends.pop())


def _drain(  # noqa: PLR0913 - all of them named by the one caller
    output_read: int,
    log: Path,
    on_line: Callable[[str], None],
    children: Sequence[subprocess.Popen[bytes]],
    links: Sequence[list[int]],
    *,
    check: Callable[[], None],
) -> tuple[str, list[int]]:
    """Return the last lines of output, and the children's indices in the order they ended."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    order: list[int] = []
    with contextlib.ExitStack() as stack:
        ready = stack.enter_context(selectors.DefaultSelector())
        for index, child in enumerate(children):
            fd = os.pidfd_open(child.pid)
            stack.callback(os.close, fd)
            ready.register(fd, selectors.EVENT_READ, index)
        ready.register(output_read, selectors.EVENT_READ)
        write = stack.enter_context(_log_writer(log))
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        partial, open_ = "", True
        while open_ or len(order) < len(children):
            check()
            for key, _ in ready.select(CHECK_EVERY_S):
                if key.fd != output_read:
                    order.append(key.data)
                    ready.unregister(key.fd)
                    _close(links[key.data])
                    continue
                data = os.read(output_read, CHUNK_BYTES)
                *lines, partial = (partial + decoder.decode(data, final=not data)).split("\n")
                if not data:
                    open_ = False
                    ready.unregister(output_read)
                    lines += [partial] if partial else []
                for line in lines:
                    write(f"{line}\n")
                    tail.append(f"{line}\n")
                    on_line(line)
    return "".join(tail), order


@contextlib.contextmanager
def _log_writer(log: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that appends to a log; on a full disk it drops the text."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(log.open("wb", buffering=0))
        except OSError as error:
            if not full(error):
                raise
            file = stack.enter_context(Path(os.devnull).open("wb", buffering=0))

        def write(text: str) -> None:
            try:
                file.write(text.encode(errors="replace"))
            except OSError as error:
                if not full(error):
                    raise

        yield write


def _keep_log(log: Path) -> Path:
    """Rename the log of a failure, so that the next attempt keeps it; delete the oldest ones."""
    if not log.exists():
        return log
    kept = log.with_name(f"{log.stem}.failed-{time.strftime('%Y%m%d-%H%M%S')}{log.suffix}")
    failures = sorted(log.parent.glob(f"{log.stem}.failed-*{log.suffix}"))
    for old in failures[: -FAILURES_KEPT + 1]:
        old.unlink(missing_ok=True)
    return log.rename(kept)


def _await_end_of_output(output_read: int, deadline: Deadline) -> None:
    # We cannot wait for killed grandchildren, but the pipe closes when the last of them ends.
    with selectors.DefaultSelector() as ready:
        ready.register(output_read, selectors.EVENT_READ)
        while ready.select(deadline.remaining_s) and os.read(output_read, CHUNK_BYTES):
            pass


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    patience = Deadline.after(LAST_WORDS_S)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            # The group has ended, or its remaining processes run as another user of a namespace.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(patience.remaining_s)
