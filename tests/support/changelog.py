"""What a Debian kernel's changelog says of upstream commits."""

import re
from collections.abc import Iterator

UPSTREAM = re.compile(r"ChangeLog-(\d+(?:\.\d+)+)\s*$")


def releases_carrying(changelog: str, subject: str) -> set[str]:
    """Return the stable releases under which a Debian kernel changelog lists a commit.

    Args:
        changelog: text of `changelog.Debian`.
        subject: the commit's subject; the changelog folds long ones over two lines.
    """
    wanted = " ".join(subject.split())
    found: set[str] = set()
    for release, entry in _entries(changelog):
        if release and wanted in entry and f'Revert "{wanted}' not in entry:
            found.add(release)
    return found


def _entries(changelog: str) -> Iterator[tuple[str | None, str]]:
    """Yield each list entry in one line, with the upstream release it stands under."""
    release: str | None = None
    entry: list[str] = []
    for line in changelog.splitlines():
        upstream = UPSTREAM.search(line)
        starts = line.startswith(("    - ", "  * ", "  [", " -- ")) or not line.startswith(" ")
        if starts or upstream:
            yield release, " ".join(entry)
            entry = []
        if upstream:
            release = upstream[1]
        elif line.startswith("    - "):
            entry = line.removeprefix("    - ").split()
        elif entry:
            entry += line.split()
        if line.startswith("  * ") or (line and not line.startswith(" ")):
            release = None
    yield release, " ".join(entry)
