"""Cache entries as one file that another host can import.

The file is a zstd stream of a tar with plain files only: first the contents, then for each entry
its manifest and its files, in the manifest's order. The reader knows every name before it comes,
and refuses any other; it never follows a path or a link of the archive. Entries become visible when
the whole archive has been read and verified.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import filelock
import zstandard

from vfio_lab.arch import X86_64
from vfio_lab.errors import UsageError
from vfio_lab.util import host
from vfio_lab.util.cache import CHUNK_BYTES, MANIFEST, ZEROS, Cache, damage
from vfio_lab.util.files import write_whole

FORMAT = 1
CONTENTS = "vfio-lab-cache.json"
# What does not depend on the host, or says on which it depends.
KINDS = (
    *("keys", "agent", "source", "kernel", "distribution", "image", "selftests", "initramfs"),
    *("payload", "template"),
)
PINNED = "source"
LEVEL = 3
WINDOW_BYTES = 1 << 27
TEXT_BYTES = 16 << 20
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}")
STAGE = ".import."
NONSENSE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Entry:
    """An entry of the cache, as an archive lists it.

    Args:
        kind: the kind of the entry.
        key: the key of the entry.
        disk_bytes: the space that it takes, in bytes.
        inputs: what its key was made of.
    """

    kind: str
    key: str
    disk_bytes: int = 0
    inputs: Mapping[str, object] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        """Return `kernel 084d87a2138c1ef0`."""
        return f"{self.kind} {self.key}"


@dataclass(frozen=True)
class Contents:
    """The first file of an archive.

    Args:
        entries: the entries, in order.
        pins: the pinned versions of packages: JSON by the name of the pin.
        architecture: the architecture of the guests.
        format: the version of the format.
    """

    entries: tuple[Entry, ...]
    pins: Mapping[str, str] = field(default_factory=dict)
    architecture: str = X86_64.name
    format: int = FORMAT


@dataclass(frozen=True)
class Imported:
    """What became of the entries of an archive: new, already there, or left out with a reason."""

    new: tuple[Entry, ...]
    there: tuple[Entry, ...]
    left_out: Mapping[Entry, str]


Select = Callable[[Contents], Mapping[Entry, str]]


def pin_path(cache: Cache, name: str) -> Path:
    """Return the file that pins the version of a package."""
    return cache.root / PINNED / f"{name}.json"


def export_archive(cache: Cache, contents: Contents, target: BinaryIO) -> None:
    """Write entries of the cache to a stream.

    Args:
        cache: the cache.
        contents: what to write; the entries must be complete.
        target: the stream.

    Raises:
        UsageError: an entry is not there any more.
    """
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, threads=-1)
    with packer.stream_writer(target, closefd=False) as out:
        _write_text(out, CONTENTS, json.dumps(asdict(contents)))
        for entry in contents.entries:
            with cache.lock(entry.kind, entry.key):
                folder = cache.find(entry.kind, entry.key)
                if folder is None:
                    raise UsageError(f"cannot export {entry}", seen="it was removed meanwhile")
                _write_entry(out, entry, folder)
        out.write(bytes(2 * tarfile.BLOCKSIZE))


def _write_entry(out: Any, entry: Entry, folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    place = f"{entry.kind}/{entry.key}"
    _write_text(out, f"{place}/{MANIFEST}", text)
    for name, facts in json.loads(text).items():
        mode = (folder / name).stat().st_mode & 0o700
        with (folder / name).open("rb") as file:
            out.write(_header(f"{place}/{name}", facts["size"], mode))
            shutil.copyfileobj(file, out, CHUNK_BYTES)
        out.write(bytes(-facts["size"] % tarfile.BLOCKSIZE))


def _write_text(out: Any, name: str, text: str) -> None:
    data = text.encode()
    out.write(_header(name, len(data), 0o600))
    out.write(data + bytes(-len(data) % tarfile.BLOCKSIZE))


def _header(name: str, size: int, mode: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    return member.tobuf(tarfile.USTAR_FORMAT)


def import_archive(cache: Cache, source: BinaryIO, select: Select) -> Imported:
    """Read an archive into the cache; entries that are there already stay as they are.

    Args:
        cache: the cache.
        source: the stream.
        select: returns the entries to leave out, with the reasons.

    Raises:
        UsageError: it is no archive of a cache, it is damaged, or it is for another architecture.
        HostError: there is not enough disk space.
    """
    reader = _Reader(source)
    contents = _contents(reader.text(CONTENTS))
    left_out = select(contents)
    known = {entry for entry in contents.entries if cache.find(entry.kind, entry.key)}
    new = [entry for entry in contents.entries if entry not in known and entry not in left_out]
    host.need_space(cache.root, sum(entry.disk_bytes for entry in new), "the archive's entries")
    with _stage(cache) as stage:
        for entry in contents.entries:
            reader.entry(entry, stage / entry.kind / entry.key if entry in new else None)
        reader.end()
        for entry in new:
            if flaw := damage(stage / entry.kind / entry.key):
                raise _refusal(f"{entry}: {flaw}")
        for entry in new:
            cache.adopt(entry.kind, entry.key, stage / entry.kind / entry.key, entry.inputs)
    for name, text in contents.pins.items():
        path = pin_path(cache, name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, text)
    return Imported(tuple(new), tuple(known - left_out.keys()), left_out)


@contextlib.contextmanager
def _stage(cache: Cache) -> Iterator[Path]:
    """Yield an empty folder on the cache's disk; one that a killed import left is deleted."""
    with filelock.FileLock(cache.root / "import.lock", mode=0o600):
        for stale in cache.root.glob(f"{STAGE}*"):
            shutil.rmtree(stale, ignore_errors=True)
        stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=cache.root))
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _contents(text: str) -> Contents:
    try:
        known = json.loads(text)
        if known["format"] != FORMAT:
            raise _refusal(f"format {known['format']}", f"format {FORMAT}")
        if known["architecture"] != X86_64.name:
            raise _refusal(f"entries for {known['architecture']}", f"entries for {X86_64.name}")
        entries = tuple(Entry(**entry) for entry in known["entries"])
        pins = dict(known["pins"])
        _check_names(entries, pins)
        return Contents(entries, pins)
    except NONSENSE as error:
        raise _refusal(f"contents that make no sense: {error!r}") from error


def _check_names(entries: Sequence[Entry], pins: Mapping[str, str]) -> None:
    for entry in entries:
        if entry.kind not in KINDS or not KEY.fullmatch(entry.key):
            raise _refusal(f"an entry {entry.kind!r} {entry.key!r}")
        if entry.disk_bytes < 0 or not isinstance(entry.inputs, dict):
            raise _refusal(f"{entry} with facts that make no sense")
    if len(set(entries)) != len(entries):
        raise _refusal("an entry twice")
    for name, text in pins.items():
        if not KEY.fullmatch(name) or not json.loads(text):
            raise _refusal(f"a pin {name!r}")


def _names(text: str, entry: Entry) -> dict[str, int]:
    """Return the sizes of an entry's files by their names, if they all stay in its folder."""
    try:
        sizes = {name: int(facts["size"]) for name, facts in json.loads(text).items()}
    except NONSENSE as error:
        raise _refusal(f"{entry} with a manifest that makes no sense: {error!r}") from error
    for name, size in sizes.items():
        parts = PurePosixPath(name).parts
        if size < 0 or "/".join(parts) != name or {"/", "..", MANIFEST} & set(parts) or not parts:
            raise _refusal(f"{entry} with a file {name!r}")
        if any(str(parent) in sizes for parent in PurePosixPath(name).parents):
            raise _refusal(f"{entry} with a file {name!r} in a file")
    return sizes


def _refusal(seen: str, expected: str = "a file that `vfio-lab cache export` wrote") -> UsageError:
    return UsageError(
        "the archive cannot be imported; the cache is unchanged", expected=expected, seen=seen
    )


class _Reader:
    """Reads the files of an archive in the order in which they must come."""

    def __init__(self, source: BinaryIO) -> None:
        unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        self._stream = unpacker.stream_reader(source, closefd=False)

    def text(self, name: str) -> str:
        """Return the text of the next file, which must have this name."""
        size = self._member(name).size
        if size > TEXT_BYTES:
            raise _refusal(f"{name} with {size} bytes")
        data = self._bytes(size)
        self._bytes(-size % tarfile.BLOCKSIZE)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise _refusal(f"{name} is no text") from error

    def entry(self, entry: Entry, folder: Path | None) -> None:
        """Read an entry into a folder, or skip it."""
        place = f"{entry.kind}/{entry.key}"
        text = self.text(f"{place}/{MANIFEST}")
        sizes = _names(text, entry)
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True)
            (folder / MANIFEST).touch(mode=0o600)
            (folder / MANIFEST).write_text(text)
        for name, size in sizes.items():
            member = self._member(f"{place}/{name}")
            if member.size != size:
                raise _refusal(f"{place}/{name} with {member.size} bytes, not {size}")
            self._copy(size, None if folder is None else folder / name, member.mode & 0o700)
            self._bytes(-size % tarfile.BLOCKSIZE)

    def end(self) -> None:
        """Check that nothing follows."""
        if any(self._bytes(2 * tarfile.BLOCKSIZE)) or self._read(1):
            raise _refusal("more than its contents list")

    def _member(self, name: str) -> tarfile.TarInfo:
        try:
            member = tarfile.TarInfo.frombuf(self._bytes(tarfile.BLOCKSIZE), "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise _refusal(f"no {name} where it should be") from error
        if member.type != tarfile.REGTYPE or member.name != name:
            raise _refusal(f"{member.name!r} (type {member.type!r}) where {name} should be")
        return member

    def _copy(self, size: int, path: Path | None, mode: int) -> None:
        """Write the next bytes to a file, with holes for zeros; without a path skip them."""
        with contextlib.ExitStack() as stack:
            file = None
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
                file = stack.enter_context(path.open("r+b"))
            for offset in range(0, size, CHUNK_BYTES):
                data = self._bytes(min(CHUNK_BYTES, size - offset))
                if file is not None and data != ZEROS[: len(data)]:
                    file.seek(offset)
                    file.write(data)
            if file is not None and path is not None:
                file.truncate(size)
                path.chmod(mode)

    def _bytes(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            if not (part := self._read(size - len(data))):
                raise _refusal("the end of the file in the middle of it: is it complete?")
            data += part
        return bytes(data)

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except zstandard.ZstdError as error:
            raise _refusal(f"no zstd stream, or a damaged one: {error}") from error
        return data
