"""The output of kbuild's make: steps of work, and the first error."""

from __future__ import annotations

import re

# A line of make for a step of work: "  CC [M]  drivers/vfio/vfio_main.o".
STEP = re.compile(r"  ([A-Z][A-Z_0-9]*)(?: \[M\])? +(\S+)")
COMPLAINT = re.compile(r"^(?:\.\./)*(\S+?:\d+):(?:\d+:)? (?:fatal )?(error: .*)$", re.MULTILINE)
LINKING = re.compile(r"^(?:ERROR|error): (modpost: .*)$|^ld: (.*)$", re.MULTILINE)


def step(line: str) -> str | None:
    """Return the target of a line of make's output if it reports a step, else None."""
    match = STEP.match(line)
    return None if match is None else match[2]


def complaint(log: str) -> str | None:
    """Return the first error in a compiler's or linker's output, with file and line."""
    if (match := COMPLAINT.search(log)) is not None:
        return f"{match[1]}: {match[2]}"
    match = LINKING.search(log)
    return None if match is None else match[1] or match[2]
