"""The command, run as people run it."""

import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-c", "from vfio_lab.cli import main; main()")
# Jobs that a script starts in the background ignore Ctrl-C, and so does all that they start.
INTERRUPTIBLE = ("env", "--default-signal=INT", *COMMAND)


def vfio_lab(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does, in a folder."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
