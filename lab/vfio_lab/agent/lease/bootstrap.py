"""Run on the other machine by `python3 -c`: takes in the agent, `SIZE BDF MODE` its arguments.

What was taken in is deleted as soon as it is in memory, so that nothing of it can stay behind.
"""

import importlib
import json
import os
import shutil
import sys
import tempfile

OLDEST = (3, 9)


def main() -> int:
    """Read the agent's files from stdin, import them, delete them and hand over."""
    if sys.version_info < OLDEST:
        sys.stderr.write(f"python3 is {sys.version.split()[0]}, the agent needs 3.9\n")
        return 5
    missing = int(sys.argv[1])
    parts = []
    while missing and (part := os.read(0, missing)):
        parts.append(part)
        missing -= len(part)
    folder = tempfile.mkdtemp(prefix="vfio-lab-")
    try:
        for name, text in json.loads(b"".join(parts)).items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "x") as file:
                file.write(text)
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        entry = importlib.import_module("agent.lease.entry")
    finally:
        shutil.rmtree(folder)
    return int(entry.main(sys.argv[2], sys.argv[3]))


if __name__ == "__main__":
    sys.exit(main())
