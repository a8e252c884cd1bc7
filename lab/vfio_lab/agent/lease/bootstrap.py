"""Run on the other machine by `python3 -c`, with the arguments `SIZE AGENT_SIZE BDF MODE`.

It reads the lease and the agent from stdin. Their files are deleted as soon as they are in memory,
so that nothing stays on the machine.
"""

import importlib
import json
import os
import shutil
import sys
import tempfile

OLDEST = (3, 9)


def main() -> int:
    """Read the lease and the agent from stdin, import the lease, delete its files and run it."""
    if sys.version_info < OLDEST:
        sys.stderr.write(f"python3 is {sys.version.split()[0]}, the lease needs 3.9\n")
        return 5
    files = json.loads(read(int(sys.argv[1])))
    program = read(int(sys.argv[2]))
    folder = tempfile.mkdtemp(prefix="vfio-lab-")
    try:
        for name, text in files.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(path, "x") as file:
                file.write(text)
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        entry = importlib.import_module("lease.entry")
    finally:
        shutil.rmtree(folder)
    return int(entry.main(sys.argv[3], sys.argv[4], program))


def read(size: int) -> bytes:
    """Return up to `size` bytes from stdin."""
    parts = []
    while size and (part := os.read(0, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    sys.exit(main())
