"""Patches applied to a tree's files, without a change to the tree.

git applies them to an index in a scratch repository, which holds only the files that the patches
touch. A patch whose context does not match is merged by the blobs that its `index` lines name, as
`git am -3` does, where a repository has these blobs. They are copied, since git sets the times of
borrowed objects when it would write them again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vfio_lab.errors import BuildError
from vfio_lab.kernels import gittree
from vfio_lab.kernels.csource import FileChange
from vfio_lab.kernels.series import Patch, touched
from vfio_lab.util.cache import digest

FAILED = re.compile(r"^error: patch failed: (\S+)$", re.MULTILINE)
ABSENT = re.compile(r"^error: (\S+): (?:does not exist in index|No such file or directory)$", re.M)
PRESENT = re.compile(r"^error: (\S+): already exists in index$", re.MULTILINE)
BLOB = re.compile(r"^index ([0-9a-f]{4,64})\.\.", re.MULTILINE)
APPLY = ("-c", "apply.whitespace=nowarn", "apply", "--cached")
LINK, PROGRAM, FILE = "120000", "100755", "100644"


@dataclass(frozen=True)
class Content:
    """What a patched file contains.

    Args:
        mode: git's mode of the file.
        data: its content, or what it links to.
    """

    mode: str
    data: bytes


PatchedFiles = Mapping[PurePath, Content | None]


def patched_files(
    patches: Sequence[Patch], tree: Path, what: str, repositories: Iterable[Path] = ()
) -> PatchedFiles:
    """Return the content of each file that a series changes, None for those that it removes.

    Args:
        patches: the series.
        tree: the sources; they are not changed.
        what: the name of the sources in errors.
        repositories: folders with objects, where the blobs of `index` lines may be.

    Raises:
        BuildError: a patch does not apply; names patch, file and line.
    """
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as folder:
        scratch = Path(folder)
        gittree.git(scratch, "init", "--quiet", "--template=")
        folders = tuple(repositories)
        before = _add(scratch, tree, touched(patches))
        for patch in patches:
            _apply(patch, scratch, what, folders)
        after = _index(scratch)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        return {PurePath(name): _content(scratch, after.get(name)) for name in sorted(changed)}


def write_alternates(own: Path, folders: Iterable[Path]) -> None:
    """Let a repository use the objects in other folders."""
    place = own / "objects/info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "alternates").write_text("".join(f"{folder}\n" for folder in folders))


def write_files(files: PatchedFiles, tree: Path) -> None:
    """Change the files of a tree; hard links to their old content stay as they are."""
    for name, content in files.items():
        path = tree / name
        path.unlink(missing_ok=True)
        if content is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.mode == LINK:
            path.symlink_to(content.data.decode())
        else:
            path.write_bytes(content.data)
            path.chmod(0o755 if content.mode == PROGRAM else 0o644)


def restore_files(files: PatchedFiles, original: Path, tree: Path) -> None:
    """Undo `write_files`, with new times, so that make builds the files again.

    Args:
        files: the changed files.
        original: the tree with the content before.
        tree: the changed tree.
    """
    for name in files:
        (tree / name).unlink(missing_ok=True)
        if os.path.lexists(original / name):
            shutil.copyfile(original / name, tree / name, follow_symlinks=False)
            shutil.copymode(original / name, tree / name, follow_symlinks=False)


def file_changes(files: PatchedFiles, tree: Path) -> list[FileChange]:
    """Return the texts of changed files before and after.

    Args:
        files: the changed files.
        tree: the tree with the content before.
    """
    return [
        FileChange(
            name,
            _read(tree / name).decode(errors="replace") if _is_content(tree / name) else None,
            None if content is None else content.data.decode(errors="replace"),
        )
        for name, content in files.items()
    ]


def files_digest(files: PatchedFiles) -> str:
    """Return the digest of all changed files."""
    return digest({str(name): one and [one.mode, one.data.hex()] for name, one in files.items()})


def _add(scratch: Path, tree: Path, names: Iterable[PurePath]) -> dict[str, str]:
    """Put files of a tree into the index; return mode and hash of each."""
    there = [name for name in sorted(names) if _inside(name) and _is_content(tree / name)]
    lines = []
    for name in there:
        mode = _mode(tree / name)
        blob = _write_blob(scratch, _read(tree / name))
        lines.append(f"{mode} {blob}\t{name}\n")
    gittree.git(scratch, "update-index", "--add", "--index-info", text="".join(lines))
    return _index(scratch)


def _index(scratch: Path) -> dict[str, str]:
    listed = gittree.git(scratch, "ls-files", "--stage", "-z").split("\0")
    entries = (entry.partition("\t") for entry in listed if entry)
    return {name: facts for facts, _tab, name in entries}


def _content(scratch: Path, entry: str | None) -> Content | None:
    if entry is None:
        return None
    mode, blob, _stage = entry.split()
    data = _blob(scratch, blob)
    assert data is not None  # it is in the index
    return Content(mode, data)


def _blob(scratch: Path, blob: str) -> bytes | None:
    command = ["git", "-C", os.fspath(scratch), "cat-file", "blob", blob]
    done = subprocess.run(command, check=False, capture_output=True, env=gittree.quiet(scratch))
    return None if done.returncode else done.stdout


def _copy_blobs(patch: Patch, scratch: Path, folders: Sequence[Path]) -> None:
    """Copy the blobs that a patch was made from, as far as the folders have them."""
    write_alternates(scratch / ".git", folders)
    found = [_blob(scratch, name) for name in BLOB.findall(patch.text)]
    write_alternates(scratch / ".git", ())
    for data in filter(None, found):
        _write_blob(scratch, data)


def _write_blob(scratch: Path, data: bytes) -> str:
    (scratch / "file").write_bytes(data)
    return gittree.git(scratch, "hash-object", "-w", "--no-filters", "file").strip()


def _apply(patch: Patch, scratch: Path, what: str, folders: Sequence[Path]) -> None:
    try:
        gittree.git(scratch, *APPLY, "-", text=patch.text)
    except BuildError as error:
        _copy_blobs(patch, scratch, folders)
        try:
            gittree.git(scratch, *APPLY, "--3way", "-", text=patch.text)
        except BuildError:
            raise BuildError(
                f"{patch.name}: does not apply to {what}",
                seen=_places(error.seen or "", what),
                hint="name the kernel, tree or commit that the series is for with --on",
            ) from error


def _places(said: str, what: str) -> str:
    """Return where a patch does not apply, from git's messages."""
    places = FAILED.findall(said)
    places += [f"{what} has no {name}" for name in ABSENT.findall(said)]
    places += [f"{what} has {name} already" for name in PRESENT.findall(said)]
    return ", ".join(places) or said


def _inside(name: PurePath) -> bool:
    """Whether a name that a patch states is one of the tree; git refuses the others."""
    return not name.is_absolute() and ".." not in name.parts


def _is_content(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _mode(path: Path) -> str:
    if path.is_symlink():
        return LINK
    return PROGRAM if os.access(path, os.X_OK) else FILE


def _read(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
