"""Atomic writes of files, and the error for a full disk."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vfio_lab.errors import HostError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_whole(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """Write a file atomically and return its path; readers see the old content or the new.

    Args:
        path: the file; its folder must exist.
        content: the complete new content.
        mode: permission bits.

    Raises:
        OSError: the write failed; the file is unchanged.
    """
    # What a guest said may have halves of surrogate pairs in it, which no encoding has.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
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


def ends(path: Path, most_bytes: int) -> str:
    """Return the text of a file, of a longer one its beginning and its end; empty without a file.

    Args:
        path: the file.
        most_bytes: how much of it to read, in bytes.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size <= most_bytes:
                return file.read(most_bytes).decode(errors="replace")
            first = file.read(most_bytes // 2)
            file.seek(size - most_bytes // 2)
            last = file.read(most_bytes // 2)
    except FileNotFoundError:
        return ""
    left_out = f"\n({size - most_bytes} bytes are left out)\n".encode()
    return (first + left_out + last).decode(errors="replace")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes a path's place when all is written, and not before.

    Raises:
        HostError: there is no such folder, or the user may not write there.
    """
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise HostError(
            f"cannot write {path}", seen=str(error.strerror), hint="name another file"
        ) from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def append_whole(path: Path, text: str) -> None:
    """Append to a file atomically; create it if it does not exist."""
    before = path.read_bytes() if path.exists() else b""
    write_whole(path, before + text.encode())


def full(error: OSError) -> bool:
    """Return whether an error means that the disk is full or the quota is exceeded."""
    return error.errno in NO_SPACE


def no_space(error: OSError) -> HostError:
    """Return the `HostError` for a full disk."""
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    return HostError(
        "the disk filled up",
        seen=os.strerror(error.errno or 0),
        where=where,
        hint="free some space there, or write to another disk",
    )


def file_system(path: Path) -> str:
    """Return the type of the file system that a path is on, such as `9p`.

    Source: Documentation/filesystems/proc.rst, mountinfo.
    """
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == wanted:
            return kind.split()[0]
    return "a file system of unknown type"


def require_shared_mappings(folder: Path) -> None:
    """Check that files in the cache can be mapped shared, as the memory of templates is.

    Args:
        folder: the cache's folder.

    Raises:
        HostError: the file system does not allow it; says which one it is.
    """
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.truncate(mmap.PAGESIZE)
        try:
            mmap.mmap(file.fileno(), mmap.PAGESIZE).close()
        except OSError as error:
            raise HostError(
                f"files in the cache folder {folder} cannot be mapped into memory",
                expected="a file system with shared mappings: they hold a template's memory",
                seen=f"{file_system(folder)}, which answers: {error.strerror}",
                hint="set XDG_CACHE_HOME to a folder on a local disk, "
                "or boot every guest afresh: pytest --lab-cold",
            ) from error
