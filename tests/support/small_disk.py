"""A small disk that a test fills up: a tmpfs in a mount namespace of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && echo mounted && exec sleep 3600'
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--")
TRY = (*NAMESPACE, "true")
FILLER = ".filler"


@dataclass(frozen=True)
class SmallDisk:
    """A mounted tmpfs.

    Args:
        path: where it is, seen from outside its namespace.
    """

    path: Path

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.path / FILLER).open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def empty(self) -> None:
        """Give the room back."""
        (self.path / FILLER).unlink()

    def content(self) -> dict[str, bytes]:
        """Return every file but the filler, by its path."""
        files = (path for path in self.path.rglob("*") if path.is_file() and path.name != FILLER)
        return {str(path.relative_to(self.path)): path.read_bytes() for path in files}


@contextlib.contextmanager
def mounted(options: str, where: Path) -> Iterator[SmallDisk]:
    """Mount a tmpfs; skip where the host lets no user do that.

    Args:
        options: of mount(8), such as `size=64k`.
        where: an empty folder.
    """
    able = shutil.which("unshare") and not subprocess.run(TRY, check=False).returncode
    if not able:
        pytest.skip("needs user namespaces: this host does not let the test make one")
    command = [*NAMESPACE, "sh", "-c", MOUNT, "sh", options, os.fspath(where)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "mounted\n"
        yield SmallDisk(Path(f"/proc/{holder.pid}/root{where}"))
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of less than 1 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    with mounted("size=960k", where) as disk:
        yield disk
