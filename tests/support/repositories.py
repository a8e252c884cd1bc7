"""Small git repositories, and a digest of all that a command could change in one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from vfio_lab.kernels import gittree

WHO = ("-c", "user.name=A Developer", "-c", "user.email=dev@invalid")


def new_repository(tree: Path) -> Path:
    """Make an empty repository."""
    tree.mkdir(parents=True, exist_ok=True)
    gittree.git(tree, "init", "-q", "-b", "main")
    return tree


def commit(tree: Path, subject: str, files: Mapping[str, str | None], body: str = "") -> str:
    """Write files (None removes one), commit everything and return the hash."""
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
    gittree.git(tree, "add", "-A")
    message = f"{subject}\n\n{body}" if body else subject
    gittree.git(tree, *WHO, "commit", "-q", "--allow-empty", "-m", message)
    return gittree.git(tree, "rev-parse", "HEAD").strip()


def fingerprint(tree: Path) -> tuple[str, str, str]:
    """Return a repository's status, its refs, and a digest of every file in .git."""
    total = hashlib.sha256()
    for path in sorted((tree / ".git").rglob("*")):
        kind = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(tree)} {path.lstat().st_mtime_ns} {kind}\n".encode())
    status = gittree.git(tree, "status", "--porcelain", "--branch", "--ignored")
    return status, gittree.git(tree, "for-each-ref"), total.hexdigest()
