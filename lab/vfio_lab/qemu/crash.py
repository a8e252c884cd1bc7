"""What is left of a QEMU that crashed: a core, and what gdb reads from it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

GDB_TIMEOUT_S = 120.0
QUESTION = ("-batch", "-nx", "-ex", "thread apply all backtrace")


def backtrace(binary: Path, folder: Path) -> str:
    """Return the backtraces of all threads, or why there are none; a core that was read goes.

    Args:
        binary: QEMU.
        folder: where it ran, and left its core if the host's core_pattern says so.
    """
    cores = sorted(folder.glob("core*"))
    if not cores:
        pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
        return f"no core in {folder}; this host's core_pattern is {pattern!r}"
    if shutil.which("gdb") is None:
        return f"the core is {cores[0]}; with gdb installed the backtrace would be here"
    command = ["gdb", *QUESTION, os.fspath(binary), os.fspath(cores[0])]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=GDB_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"gdb did not end within {GDB_TIMEOUT_S:g} s; the core is {cores[0]}"
    if "#0" in done.stdout:
        cores[0].unlink()
    return done.stdout
