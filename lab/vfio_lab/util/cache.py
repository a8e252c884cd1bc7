"""Content-addressed cache whose entries are either complete and verified, or absent.

An entry is a folder `KIND/KEY` with a `manifest.json` that lists the sizes and SHA-256 sums of its
files. It is built in a scratch folder under a lock and renamed into place, so that no run sees an
incomplete entry. Hashing a template on every use would cost more than cloning it. A successful
check therefore writes a *seal* with the inode, size, mtime and ctime of each file, and the contents
are hashed again only if the seal does not match. User programs cannot set a ctime, but changes
within one tick of the kernel's clock get the same time stamp. An entry that changed a moment ago is
therefore not sealed yet.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import filelock
import platformdirs
from rich.text import Text

from vfio_lab.errors import HostError, UsageError
from vfio_lab.util import progress
from vfio_lab.util.cache_use import hold, in_use
from vfio_lab.util.files import full, write_whole

CHUNK_BYTES = 1 << 20
ZEROS = bytes(CHUNK_BYTES)
MANIFEST = "manifest.json"
RUBBISH = "rubbish"
DELETE, NULL = ("setsid", "--fork", "nice", "-n", "19", "rm", "-rf", "--"), subprocess.DEVNULL
# Two ticks of the slowest clock that Linux is built with (HZ=100).
SETTLED_NS = 20_000_000
Stamp = dict[str, list[int]]


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content; holes are not read, but their offsets count."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        position = _data_from(fd, 0, size)
        while position < size:
            # Chunks are aligned to the start of the file, not to the preceding hole, so that a
            # copy with fewer or more holes (rsync, tar) has the same digest.
            offset = position - position % CHUNK_BYTES
            chunk = os.pread(fd, CHUNK_BYTES, offset)
            if chunk != ZEROS[: len(chunk)]:
                total.update(f"{offset}:{len(chunk)}:".encode())
                total.update(chunk)
            position = _data_from(fd, offset + CHUNK_BYTES, size)
        total.update(f"size:{size}".encode())
    return total.hexdigest()


def _data_from(fd: int, position: int, size: int) -> int:
    """Return the offset of the next data, `size` if there is none."""
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size


@dataclass(frozen=True)
class Cache:
    """The folder of everything that the lab builds.

    Args:
        root: the folder; created on first use, mode 0700.
    """

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """Return the cache in the user's cache folder (`$XDG_CACHE_HOME/vfio-lab`)."""
        return cls(platformdirs.user_cache_path("vfio-lab"))

    def open(self) -> Cache:
        """Create the root if needed and check that it belongs to this user.

        Raises:
            UsageError: the root belongs to another user or is not a folder.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.root.stat().st_uid
        except OSError as error:
            raise UsageError(
                f"cannot use the cache folder {self.root}",
                seen=str(error),
                hint="set XDG_CACHE_HOME to a folder you can write",
            ) from error
        if owner != os.geteuid():
            raise UsageError(
                f"the cache folder {self.root} belongs to another user",
                expected=f"uid {os.geteuid()}",
                seen=f"uid {owner}",
                hint="set XDG_CACHE_HOME to a folder of your own",
            )
        self.root.chmod(0o700)
        return self

    def path(self, kind: str, key: str) -> Path:
        """Return the path of the entry, whether or not it exists."""
        return self.root / kind / key

    def lock(self, kind: str, key: str) -> filelock.FileLock:
        """Return the lock that protects the entry from other runs."""
        folder = self.open().root / "locks"
        folder.mkdir(mode=0o700, exist_ok=True)
        return filelock.FileLock(folder / f"{kind}-{key}.lock", mode=0o600)

    def find(self, kind: str, key: str) -> Path | None:
        """Return the entry if it is complete and undamaged, else None."""
        entry, seal = self.path(kind, key), self._seal(kind, key)
        if not entry.exists() or _flaw(entry, seal):
            return None
        with contextlib.suppress(OSError):
            os.utime(seal)  # `prune` reads the seal's mtime as the time of last use
        hold(entry)
        return entry

    def obtain(
        self,
        kind: str,
        key: str,
        build: Callable[[Path], None],
        *,
        inputs: Mapping[str, object] = MappingProxyType({}),
        on_wait: Callable[[], None] = lambda: None,
    ) -> Path:
        """Return the entry; build it first if it is missing or damaged.

        Args:
            kind: `kernel`, `image`, `template`, ...
            key: digest of all inputs.
            build: called with an empty scratch folder, which it fills.
            inputs: what the digest was made of, a JSON-able value; kept for `cache why`.
            on_wait: called once if another run holds the entry's lock.

        Raises:
            UsageError: the cache belongs to another user.
            HostError: the disk is full.
            LabError: `build` failed; the scratch folder is deleted.
        """
        if (entry := self.open().find(kind, key)) is not None:
            if inputs and not self._inputs(kind, key).exists():
                self._record(kind, key, inputs)
            return entry
        with self._room_for(kind, key), self._locked(kind, key, on_wait):
            if (entry := self.find(kind, key)) is None:
                self._tell_flaw(kind, key)
                entry = self._build(kind, key, build, inputs)
        return entry

    def adopt(self, kind: str, key: str, folder: Path, inputs: Mapping[str, object]) -> bool:
        """Make an entry of a folder with a manifest; return False if the cache has the entry.

        Args:
            kind: as for `obtain`.
            key: as for `obtain`.
            folder: the verified folder, on the cache's disk; it is moved.
            inputs: as for `obtain`.
        """
        parent = self.open().root / kind
        parent.mkdir(mode=0o700, exist_ok=True)
        with self.lock(kind, key):
            if self.find(kind, key) is not None:
                return False
            self._discard(kind, key)
            self._install(kind, key, folder, inputs)
        return True

    def inputs(self, kind: str, key: str) -> dict[str, Any]:
        """Return what an entry's key was made of, empty if that was not recorded."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._inputs(kind, key).read_text())
            return found if isinstance(found, dict) else {}
        return {}

    def last_use(self, kind: str, key: str) -> float:
        """Return when an entry was last used, in seconds since 1970; 0 if there is none."""
        for path in (self._seal(kind, key), self.path(kind, key)):
            with contextlib.suppress(OSError):  # a new entry may have no seal yet
                return path.stat().st_mtime
        return 0.0

    def _tell_flaw(self, kind: str, key: str) -> None:
        """Say why an entry that is there is made anew."""
        entry = self.path(kind, key)
        if entry.exists() and (flaw := _flaw(entry, self._seal(kind, key))):
            line = f"{kind} {key} was damaged and is made anew: {flaw} ({entry})"
            progress.display().say(Text(line))

    def prune(self, kind: str, keep: int, idle_s: float = 0.0) -> None:
        """Delete the least recently used entries of a kind that no other process uses.

        Args:
            kind: the kind of entries.
            keep: how many of the most recently used entries to keep.
            idle_s: entries used within this time are kept as well, in seconds.
        """
        ages = {key: self.last_use(kind, key) for key in self.keys(kind)}
        for key in sorted(ages, key=ages.__getitem__, reverse=True)[keep:]:
            if ages[key] <= time.time() - idle_s and not in_use(self.path(kind, key)):
                self.remove(kind, key)

    def remove(self, kind: str, key: str) -> None:
        """Delete the entry if it exists."""
        with self.lock(kind, key):
            self._discard(kind, key)

    def delete_later(self, folder: Path) -> None:
        """Move a folder away at once, and let a process that may outlive this one delete it."""
        heap = self.root / RUBBISH
        heap.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(heap / uuid.uuid4().hex)
        left = map(os.fspath, heap.iterdir())  # also what another process could not finish
        subprocess.run([*DELETE, *left], stdin=NULL, stdout=NULL, stderr=NULL, check=False)

    def keys(self, kind: str) -> list[str]:
        """Return the keys of all entries of a kind that have a manifest."""
        names = (path.parent.name for path in (self.root / kind).glob(f"*/{MANIFEST}"))
        return sorted(name for name in names if not name.startswith("."))  # dot: being built

    def _record(self, kind: str, key: str, inputs: Mapping[str, object]) -> None:
        if inputs:
            with contextlib.suppress(OSError):  # for example a full disk; nothing depends on it
                write_whole(self._inputs(kind, key), json.dumps(inputs))

    def _seal(self, kind: str, key: str) -> Path:
        return self.root / kind / f"{key}.seal"

    def _inputs(self, kind: str, key: str) -> Path:
        return self.root / kind / f"{key}.inputs.json"

    def _discard(self, kind: str, key: str) -> None:
        self._seal(kind, key).unlink(missing_ok=True)
        self._inputs(kind, key).unlink(missing_ok=True)
        shutil.rmtree(self.path(kind, key), ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, kind: str, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        lock = self.lock(kind, key)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _room_for(self, kind: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not full(error):
                raise
            raise HostError(
                f"the disk filled up while building {kind} {key}",
                seen=str(error),
                where=self.root / kind,
                hint=f"free some space below {self.root}, or move XDG_CACHE_HOME",
            ) from error

    def _build(
        self, kind: str, key: str, build: Callable[[Path], None], inputs: Mapping[str, object]
    ) -> Path:
        self._discard(kind, key)
        parent = self.root / kind
        parent.mkdir(mode=0o700, exist_ok=True)
        for stale in parent.glob(f".{key}.*"):  # left by a killed run: we hold the lock
            shutil.rmtree(stale, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=parent))
        try:
            build(scratch)
            _make_private(scratch)
            _write_manifest(scratch)
            return self._install(kind, key, scratch, inputs)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _install(self, kind: str, key: str, folder: Path, inputs: Mapping[str, object]) -> Path:
        entry = self.path(kind, key)
        self._record(kind, key, inputs)
        folder.rename(entry)
        _write_seal(_stamp(entry), self._seal(kind, key))
        hold(entry)
        return entry


def damage(folder: Path) -> str:
    """Return what is wrong with a folder by its manifest, empty if nothing is."""
    return _flaw(folder, folder.with_name(f"{folder.name}.seal"))


def _files(entry: Path) -> list[Path]:
    return sorted(path for path in entry.rglob("*") if path.is_file() and path.name != MANIFEST)


def _make_private(scratch: Path) -> None:
    for path in (scratch, *scratch.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)


def _write_manifest(scratch: Path) -> None:
    files = {
        str(path.relative_to(scratch)): {
            "size": path.stat().st_size,
            "sha256": file_digest(path),
        }
        for path in _files(scratch)
    }
    path = scratch / MANIFEST
    path.touch(mode=0o600)
    path.write_text(json.dumps(files, indent=1, sort_keys=True))


def _stamp(entry: Path) -> Stamp:
    paths = [*_files(entry), entry / MANIFEST]
    stats = {str(path.relative_to(entry)): path.stat() for path in paths}
    return {
        name: [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        for name, stat in stats.items()
    }


def _write_seal(stamp: Stamp, seal: Path) -> None:
    """Write the seal of an entry; a missing seal only costs a re-hash on the next use."""
    changed_ns = max((times[-1] for name, times in stamp.items() if name != MANIFEST), default=0)
    if changed_ns > time.time_ns() - SETTLED_NS:
        return
    with contextlib.suppress(OSError):  # for example a full disk
        write_whole(seal, json.dumps(stamp))


def _sealed(seal: Path) -> object:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(seal.read_text())
    return None


def _flaw(entry: Path, seal: Path) -> str:
    """Return what is wrong with an entry, empty if nothing is; a good one gets a seal."""
    try:
        # Taken before the contents are read, so that an edit in between invalidates the new seal.
        stamp = _stamp(entry)
        if _sealed(seal) == stamp:
            return ""
        manifest: dict[str, dict[str, Any]] = json.loads((entry / MANIFEST).read_text())
        flaw = _misplaced(manifest, stamp) or next(filter(None, _changed(entry, manifest)), "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    if not flaw:
        _write_seal(stamp, seal)
    return flaw


def _misplaced(manifest: dict[str, dict[str, Any]], stamp: Stamp) -> str:
    expected, found = {*manifest, MANIFEST}, set(stamp)
    if missing := sorted(expected - found):
        return f"{missing[0]} is missing"
    extra = sorted(found - expected)
    return f"{extra[0]} does not belong there" if extra else ""


def _changed(entry: Path, manifest: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, facts in manifest.items():
        size = (entry / name).stat().st_size
        if size != facts["size"]:
            yield f"{name} has {size} bytes, not {facts['size']}"
        elif file_digest(entry / name) != facts["sha256"]:
            yield f"{name} has another content than when it was made"
