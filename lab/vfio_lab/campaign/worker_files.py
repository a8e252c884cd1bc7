"""What goes to a host before its workers start, and the evidence that comes back."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from packaging.requirements import Requirement

from vfio_lab.campaign.worker_hosts import Reached
from vfio_lab.errors import UsageError
from vfio_lab.kernels import selector
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine import portable
from vfio_lab.machine.portable import TEMPLATE
from vfio_lab.util import resources
from vfio_lab.util.cache import Cache, digest, file_digest
from vfio_lab.util.cache_archive import Contents, export_archive

OWN = "vfio-lab"
ANY_KERNEL = frozenset({"keys", "agent", "image"})
BUILT = ANY_KERNEL | {"kernel", "distribution", "initramfs", "payload", "selftests"}
CODE = ("lab", "fixtures")
COMMAND = "from vfio_lab.cli import main; main()"
Write = Callable[[IO[bytes]], None]
# Each folder there has the digest of its files as a part of its name, and is never changed.
UNPACK = 'mkdir -p "$1.$$" && tar -xf - -C "$1.$$" && { mv -T "$1.$$" "$1" || test -e "$1"; }'
PACK = 'mkdir -p "$1" && tar -cf - -C "$1" .'
TIDY = 'rm -rf "$2" && find "$1" -mindepth 1 -maxdepth 1 -mtime +14 -exec rm -rf {} +'


@dataclass(frozen=True)
class Furnished:
    """A host on which workers can start.

    Args:
        reached: the host.
        python: the command of a Python that has the lab.
        project: the folder that holds a copy of this project.
        kernels: the kernels' folders there, each empty if the cache has it by its name.
    """

    reached: Reached
    python: tuple[str, ...]
    project: PurePosixPath
    kernels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name for ssh."""
        return self.reached.host.name

    def evidence(self, run: str) -> PurePosixPath:
        """Return the folder there for the evidence of a run."""
        return self.reached.folder / "runs" / run


def site_of(reached: Reached) -> PurePosixPath:
    """Return the folder for this host's Python packages there."""
    return reached.folder / f"site-{_packages_digest()}"


def send_packages(reached: Reached) -> PurePosixPath:
    """Send this host's Python packages, unless they are there; return their folder there."""
    folder = site_of(reached)
    if not reached.has(folder):
        _send(reached, "install the lab", folder, _package_files())
    return folder


def send_project(reached: Reached, root: Path) -> PurePosixPath:
    """Send a project, unless it is there as it is here; return the folder that holds its folder.

    Args:
        reached: the host.
        root: the project's folder.

    Raises:
        UsageError: the lab's own code is neither in the project nor in a package.
    """
    if resources.root() not in (root, resources.PACKAGE):
        raise UsageError(
            f"the project {root} cannot be spread over hosts",
            expected="the lab as an installed package, or its own checkout",
            seen=f"a checkout in {resources.root()}",
        )
    files = {str(path.relative_to(root.parent)): path for path in _files(root)}
    key = digest({name: file_digest(path) for name, path in files.items()})[:16]
    folder = reached.folder / f"project-{key}"
    if not reached.has(folder):
        _send(reached, "copy the project", folder, files)
    return folder


def code_folders(project: PurePosixPath, root: Path) -> tuple[PurePosixPath, ...]:
    """Return where the lab's own code is in a copy of a project; nowhere if it is a package."""
    if resources.root() == root:
        return tuple(project / root.name / name for name in CODE)
    return ()


def send_kernel(reached: Reached, kernel: Kernel) -> PurePosixPath:
    """Send a kernel that is not in the catalogue, unless it is there; return its folder there."""
    folder = reached.folder / f"kernel-{kernel.digest[:16]}"
    if not reached.has(folder):
        here = kernel.bzimage.parent
        files = {str(path.relative_to(here)): path for path in _files(here)}
        _send(reached, f"copy kernel {kernel.name}", folder, files)
    return folder


def ask(furnished: Furnished, contents: Contents) -> dict[str, Any]:
    """Return a host's QEMU and accelerator, and which entries its cache lacks.

    Args:
        furnished: the host.
        contents: what this host's cache has for the run.
    """
    data = json.dumps([[entry.kind, entry.key] for entry in contents.entries]).encode()
    words = (*furnished.python, "-m", "vfio_lab.campaign.worker_facts")
    host = furnished.reached.host
    return cast("dict[str, Any]", json.loads(host.run("ask for QEMU", *words, data=data)))


def in_catalogue(kernel: Kernel) -> bool:
    """Return whether a kernel is one that every host knows by its name."""
    return kernel.lasting and kernel.name in selector.all_kernels()


def contents_for(cache: Cache, kernel: Kernel, topologies: Container[str]) -> Contents:
    """Return what this host's cache has for runs on a kernel.

    Args:
        cache: the cache.
        kernel: the kernel.
        topologies: names of those whose templates are wanted; the others are made on each host.
    """
    own = in_catalogue(kernel)
    whole = portable.select_entries(cache, [kernel.name] if own else [], images=not own).contents
    kinds = BUILT if own else ANY_KERNEL
    newest = {one.key.rpartition("-")[0]: one for one in whole.entries if one.kind == TEMPLATE}
    templates = [one for name, one in newest.items() if own and name in topologies]
    entries = [one for one in whole.entries if one.kind in kinds]
    return replace(whole, entries=(*entries, *templates))


def lacking(contents: Contents, facts: Mapping[str, Any], qemu: str) -> Contents:
    """Return what a host lacks and can use: templates only if its QEMU is this host's.

    Args:
        contents: what this host has.
        facts: what the host said.
        qemu: the digest of this host's QEMU.
    """
    absent = {tuple(pair) for pair in facts["lacking"]}
    same = facts["digest"] == qemu
    return replace(
        contents,
        entries=tuple(
            one
            for one in contents.entries
            if (one.kind, one.key) in absent and (same or one.kind != TEMPLATE)
        ),
    )


def send_cache(furnished: Furnished, cache: Cache, contents: Contents) -> None:
    """Send entries of the cache; the host verifies each before anyone sees it.

    Args:
        furnished: the host.
        cache: this host's cache.
        contents: the entries.

    Raises:
        HostError: the host cannot take them.
    """
    words = (*furnished.python, "-c", COMMAND, "cache", "import", "-")

    def write(out: IO[bytes]) -> None:
        export_archive(cache, contents, cast("BinaryIO", out))

    _stream(furnished.reached, "fill the cache", words, write)


def fetch_evidence(furnished: Furnished, run: str, target: Path) -> None:
    """Bring the evidence of a run back, and delete it there.

    Args:
        furnished: the host.
        run: the run's name.
        target: the run's folder here.

    Raises:
        HostError: the host is gone.
    """
    host, folder = furnished.reached.host, furnished.evidence(run)
    with host.start("sh", "-c", PACK, "sh", str(folder)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    _unpack(archive, member, target)
        except tarfile.ReadError:
            said = process.stderr.read()
            raise host.failure("fetch evidence", process.wait(), said) from None
    host.run("tidy up", "sh", "-c", TIDY, "sh", str(furnished.reached.folder), str(folder))


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write a plain file of an archive below a folder; nothing else, and nowhere else."""
    name = PurePosixPath(member.name)
    content = archive.extractfile(member) if member.isfile() else None
    if content is None or name.is_absolute() or ".." in name.parts:
        return
    path = target / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


def _send(reached: Reached, what: str, folder: PurePosixPath, files: Mapping[str, Path]) -> None:
    def write(out: IO[bytes]) -> None:
        with tarfile.open(fileobj=out, mode="w|", dereference=True) as archive:
            for name, path in sorted(files.items()):
                archive.add(path, name, recursive=False)

    _stream(reached, what, ("sh", "-c", UNPACK, "sh", str(folder)), write)


def _stream(reached: Reached, what: str, words: tuple[str, ...], write: Write) -> None:
    with reached.host.start(*words, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the host says why below
            write(process.stdin)
        _printed, said = process.communicate()
    if process.returncode:
        raise reached.host.failure(what, process.returncode, said)


def _needed() -> dict[str, importlib.metadata.Distribution]:
    """Return the lab's distribution and all that it needs, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = [OWN]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        needs = map(Requirement, found[name].requires or ())
        wanted += [one.name for one in needs if one.marker is None or one.marker.evaluate()]
    return found


def _packages_digest() -> str:
    versions = {name: one.version for name, one in _needed().items()}
    own = _needed()[OWN].read_text("RECORD")
    return digest({"versions": versions, "own": own})[:16]


def _package_files() -> dict[str, Path]:
    files: dict[str, Path] = {}
    for one in _needed().values():
        for path in one.files or ():
            if path.parts[0] != ".." and "__pycache__" not in path.parts:
                files[str(path)] = Path(str(one.locate_file(path)))
    return files


def _files(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, without caches, environments and other hidden folders."""
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if _kept(name)]
        yield from (Path(folder, name) for name in files if _kept(name))


def _kept(name: str) -> bool:
    return not name.startswith(".") and name not in ("__pycache__", "site", "dist", "build")
