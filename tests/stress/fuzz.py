"""Hostile bytes for every parser, for as long as there is time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from stress.table import PROJECT, Finding

TESTS = "tests/test_hostile_bytes.py"
EXAMPLES = (500, 5000)
COUNTED = re.compile(r"(\d+) passed")
FAILED = re.compile(r"^FAILED (\S+)", re.MULTILINE)


def fuzz(seconds: float) -> Finding:
    """Run the property-based tests with more examples, again and again."""
    began = time.monotonic()
    examples, rounds, tests = 0, 0, 0
    wrong: list[str] = []
    while rounds == 0 or (time.monotonic() - began < seconds and not wrong):
        count = EXAMPLES[min(rounds, len(EXAMPLES) - 1)]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", TESTS],
            cwd=PROJECT,
            env={**os.environ, "VFIO_LAB_FUZZ_EXAMPLES": str(count)},
            capture_output=True,
            text=True,
            check=False,
        )
        passed = COUNTED.search(done.stdout)
        tests = int(passed[1]) if passed else 0
        wrong += FAILED.findall(done.stdout) if done.returncode else []
        wrong += ["it could not be run"] if done.returncode and not wrong else []
        examples, rounds = examples + count * tests, rounds + 1
    did = f"{tests} properties, some {examples} examples"
    return Finding("fuzz", time.monotonic() - began, did, tuple(wrong))
