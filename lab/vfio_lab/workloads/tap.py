"""TAP, the Test Anything Protocol: the output format of the kernel's selftests."""

from __future__ import annotations

import re

RESULT = re.compile(r"^(ok|not ok) \d+ (\S+)(?: # (SKIP)\b.*)?\s*$", re.MULTILINE)
PASSED, FAILED, SKIPPED = "ok", "not ok", "skip"


def results(text: str) -> dict[str, str]:
    """Return the result of each test by its name: `ok`, `not ok` or `skip`.

    Args:
        text: a program's complete output.

    Source: tools/testing/selftests/kselftest.h, ksft_test_result_code().
    """
    return {name: SKIPPED if skip else word for word, name, skip in RESULT.findall(text)}
