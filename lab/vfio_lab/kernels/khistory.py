"""The changes of the registry that a source tree has, according to its git history.

In stable trees a change is another commit, which names the original: "commit HASH upstream." or
"[ Upstream commit HASH ]". If the history does not mention a change and is not complete, the
version table decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vfio_lab.kernels import gittree
from vfio_lab.spec import changes
from vfio_lab.spec.changes import Change

BACKPORT = re.compile(r"^(?:\[ )?(?:Upstream )?commit ([0-9a-f]{12,40})(?: upstream\.?| \])", re.M)
REVERT = re.compile(r'^Revert "(.*)"$')
# Linux 2.6.12-rc2: the first commit of every complete history.
BEGINNING = "1da177e4c3f41524e886b7f1b8a0c1fc7321cac2"
PLACES = ("drivers/vfio", "drivers/iommu", "drivers/pci", "include/linux", "include/uapi/linux")
FIELD, RECORD = "\x1f", "\x1e"
Commit = tuple[str, str, str]


def known(tree: Path) -> dict[str, bool]:
    """Return whether a tree has each change that its history decides; others are left out.

    Args:
        tree: a source tree; a tree without history decides none.
    """
    if not gittree.has_history(tree):
        return {}
    registry = changes.load_changes().values()
    found = changes_in_log(registry, commits(tree))
    if gittree.knows(tree, BEGINNING) and not gittree.is_shallow(tree):
        hashed = [change.id for change in registry if re.fullmatch("[0-9a-f]{12}", change.id)]
        return dict.fromkeys(hashed, False) | found
    return found


def commits(tree: Path) -> Iterator[Commit]:
    """Yield hash, subject and body of the relevant commits, newest first."""
    log = gittree.git(tree, "log", f"--format=%H{FIELD}%s{FIELD}%b{RECORD}", "HEAD", "--", *PLACES)
    for record in log.split(RECORD):
        if record.strip():
            hash_, subject, body = record.strip("\n").split(FIELD)
            yield hash_, subject, body


def changes_in_log(registry: Iterable[Change], log: Iterable[Commit]) -> dict[str, bool]:
    """Return whether the changes that a log mentions are present (True) or reverted (False).

    Args:
        registry: the changes.
        log: the commits, newest first; the newest one decides.
    """
    by_subject = {change.subject: change.id for change in registry}
    ids = set(by_subject.values())
    found: dict[str, bool] = {}
    for hash_, subject, body in log:
        if (match := REVERT.match(subject)) is not None:
            if match[1] in by_subject:
                found.setdefault(by_subject[match[1]], False)
            continue
        origins = {hash_[:12], *(origin[:12] for origin in BACKPORT.findall(body))}
        if subject in by_subject:
            found.setdefault(by_subject[subject], True)
        for origin in origins & ids:
            found.setdefault(origin, True)
    return found
