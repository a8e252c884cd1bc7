"""Files that are written whole or not at all, and what to do on a full disk."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from vfio_lab.errors import HostError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_whole(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """Write a file so that a reader sees the old content or the new; return its path.

    Args:
        path: the file; its folder exists.
        content: all of it.
        mode: permission bits.

    Raises:
        OSError: it could not be written; the file is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    scratch = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        scratch.chmod(mode)
        return scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def append_whole(path: Path, text: str) -> None:
    """Append to a file that need not exist, whole or not at all."""
    before = path.read_bytes() if path.exists() else b""
    write_whole(path, before + text.encode())


def full(error: OSError) -> bool:
    """Return whether an error says that the disk or the quota is used up."""
    return error.errno in NO_SPACE


def no_space(error: OSError) -> HostError:
    """Return the lab's own error for a full disk."""
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    return HostError(
        "the disk filled up",
        seen=os.strerror(error.errno or 0),
        where=where,
        hint="free some space there, or have it written elsewhere",
    )
