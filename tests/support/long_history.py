"""A kernel's history of thousands of commits, made by `git fast-import` in a second.

Mainline has a tag at each release and a merge every few commits; topics are merged out of order. A
stable branch starts at v6.12 and has backports, in both forms in which they name their originals.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.repositories import new_repository

from vfio_lab.util.host import which

MAINLINE, STABLE = 1700, 500
RELEASES = {1: "6.11.0", 300: "6.12.0", 700: "6.13.0", 1100: "7.0.0", 1650: "7.3.0"}
BRANCH_POINT = 300
MERGE_EVERY, TOPIC = 25, 4
STABLE_RELEASE_EVERY = 20
WHO = "A Developer <dev@invalid>"
PLACES = ("drivers/vfio/pci/vfio_pci_core.c", "fs/inode.c", "drivers/iommu/iommu.c", "mm/mmap.c")


@dataclass
class Stream:
    """Input of `git fast-import`."""

    lines: list[bytes] = field(default_factory=list)
    marks: int = 0

    def commit(
        self, branch: str, message: str, files: dict[str, str], parents: Sequence[int]
    ) -> int:
        """Add a commit and return its mark."""
        self.marks += 1
        text = message.encode()
        self.lines += [f"commit refs/heads/{branch}".encode(), f"mark :{self.marks}".encode()]
        self.lines += [f"committer {WHO} {1_600_000_000 + self.marks} +0000".encode()]
        self.lines += [f"data {len(text)}".encode(), text]
        words = ("from", *["merge"] * len(parents))[: len(parents)]
        self.lines += [
            f"{word} :{mark}".encode() for word, mark in zip(words, parents, strict=True)
        ]
        for name, content in files.items():
            data = content.encode()
            self.lines += [f"M 100644 inline {name}".encode(), f"data {len(data)}".encode(), data]
        return self.marks

    def tag(self, name: str, mark: int) -> None:
        """Add an annotated tag."""
        lines = (f"tag {name}", f"from :{mark}", f"tagger {WHO} 1700000000 +0000", "data 1", "x")
        self.lines += [line.encode() for line in lines]


def version_files(release: str) -> dict[str, str]:
    """Return the files that say that a tree is a kernel's, and which."""
    fields = zip(("VERSION", "PATCHLEVEL", "SUBLEVEL"), release.split("."), strict=True)
    return {"Makefile": "".join(f"{name} = {value}\n" for name, value in fields), "Kconfig": ""}


def long_history(tree: Path, subjects: dict[int, str], backports: dict[int, str]) -> int:
    """Make the repository, check mainline out and return the number of commits.

    Args:
        tree: the folder to make.
        subjects: subjects of some commits of mainline, by their place.
        backports: messages of some commits of the stable branch, by their place.
    """
    stream = Stream()
    head, branch_point = 0, 0
    for number in range(1, MAINLINE + 1):
        files = {PLACES[number % len(PLACES)]: f"{number}\n"}
        files |= version_files(RELEASES[number]) if number in RELEASES else {}
        message = subjects.get(number, f"subsystem: Change {number}") + "\n\nWhy.\n"
        head = stream.commit("main", message, files, [head] if head else [])
        if number % MERGE_EVERY == 0:
            head = _merge(stream, head, number)
        if number in RELEASES:
            stream.tag(f"v{RELEASES[number].removesuffix('.0')}", head)
        if number == BRANCH_POINT:
            branch_point = head
    head = branch_point
    for number in range(1, STABLE + 1):
        files = {PLACES[number % len(PLACES)]: f"stable {number}\n"}
        release = f"6.12.{number // STABLE_RELEASE_EVERY}"
        files |= version_files(release) if number % STABLE_RELEASE_EVERY == 0 else {}
        message = backports.get(
            number, f"subsystem: Backport {number}\n\ncommit {number:040x} upstream."
        )
        head = stream.commit("linux-6.12.y", message, files, [head])
        if number % STABLE_RELEASE_EVERY == 0:
            stream.tag(f"v{release}", head)
    new_repository(tree)
    import_stream(tree, b"\n".join([*stream.lines, b""]))
    return stream.marks


def import_stream(tree: Path, stream: bytes) -> None:
    """Import a stream and check mainline out."""
    for words, text in ((("fast-import", "--quiet"), stream), (("checkout", "-qf", "main"), b"")):
        subprocess.run([which("git"), "-C", tree, *words], input=text, check=True)


def _merge(stream: Stream, head: int, number: int) -> int:
    side = head - MERGE_EVERY // 2 if head > MERGE_EVERY else head
    for step in range(TOPIC):
        name = f"drivers/vfio/topic-{number}.c"
        side = stream.commit(
            f"topic-{number}", f"vfio: Topic {number}.{step}", {name: f"{step}"}, [side]
        )
    return stream.commit("main", f"Merge branch 'topic-{number}'", {}, [head, side])
