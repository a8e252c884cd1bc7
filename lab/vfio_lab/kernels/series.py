"""Patch series: read from a mailbox, from files or from a git range, and applied to a tree."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vfio_lab.errors import BuildError, UsageError
from vfio_lab.kernels import gittree

TOUCHED = re.compile(r"^(?:--- a/|\+\+\+ b/|rename from |rename to )(\S+)", re.MULTILINE)
SUBJECT = re.compile(r"^Subject: *(.*(?:\n[ \t].*)*)", re.MULTILINE)
TAG = re.compile(r"^(\[[^]]*\] *)+")
FAILED = re.compile(r"^error: patch failed: (\S+)$", re.MULTILINE)
MAIL = re.compile(r"^From \S+ ", re.MULTILINE)
ENVELOPE = f"From {'0' * 40} Mon Sep 17 00:00:00 2001"


@dataclass(frozen=True)
class Patch:
    """One patch.

    Args:
        name: the subject, or the file's name.
        text: the diff, including any text before it.
    """

    name: str
    text: str

    @property
    def touched(self) -> frozenset[PurePath]:
        """The files that it changes, adds or removes."""
        return frozenset(PurePath(name) for name in TOUCHED.findall(self.text))


def read_series(sources: Sequence[str], repository: Path) -> list[Patch]:
    """Return the patches that a user names, in order.

    Args:
        sources: mailboxes, patch files, or ranges such as `master..topic`.
        repository: the repository for ranges.

    Raises:
        UsageError: there is no such file, or it contains no patch.
        BuildError: git does not find the range.
    """
    found: list[Patch] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_file():
            patches = _file(path)
        elif ".." in source and not path.exists():
            patches = _mailbox(gittree.git(repository, "format-patch", "--stdout", source))
        else:
            raise UsageError(
                f"there is no patch {source}", expected="a mailbox, a patch file or a git range"
            )
        found += [patch for patch in patches if patch.touched]  # a cover letter touches nothing
        if not any(patch.touched for patch in patches):
            raise UsageError(f"{source} holds no patch", expected="unified diffs with a/ and b/")
    return found


def read_mail(text: str) -> list[Patch]:
    """Return the patches in a mail or a mailbox, none if there is none in it.

    Args:
        text: a message as a mail program hands it on, or as a mailbox has it.

    Raises:
        BuildError: git cannot read it as a mail.
    """
    mailbox = text if MAIL.match(text) else f"{ENVELOPE}\n{text}"
    return [patch for patch in _mailbox(mailbox) if patch.touched]


def touched(patches: Iterable[Patch]) -> frozenset[PurePath]:
    """Return all files that a series touches."""
    return frozenset().union(*(patch.touched for patch in patches))


@contextlib.contextmanager
def applied(patches: Sequence[Patch], tree: Path, what: str) -> Iterator[None]:
    """Apply a series to a tree, in order, and revert it at the end.

    Args:
        patches: the series.
        tree: the top folder of the sources.
        what: the tree's name in errors.

    Raises:
        BuildError: a patch does not apply; names file and line.
    """
    with contextlib.ExitStack() as undo:
        for patch in patches:
            _apply(patch, tree, what)
            undo.callback(revert, patch, tree)
        yield


def revert(patch: Patch, tree: Path) -> None:
    """Revert an applied patch."""
    gittree.git(tree, "apply", "--reverse", "-", text=patch.text)


def _apply(patch: Patch, tree: Path, what: str) -> None:
    try:
        gittree.git(tree, "apply", "-", text=patch.text)
    except BuildError as error:
        places = ", ".join(FAILED.findall(error.seen or ""))
        raise BuildError(
            f"{patch.name}: does not apply to {what}", seen=places or error.seen
        ) from error


def _file(path: Path) -> list[Patch]:
    text = path.read_text(errors="replace")
    return _mailbox(text) if MAIL.match(text) else [Patch(path.name, text)]


def _mailbox(text: str) -> list[Patch]:
    """Return the patches of a mailbox, with their transfer encoding decoded."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gittree.git(folder, "mailsplit", f"-o{folder}", text=text)
        for mail in sorted(folder.iterdir()):
            raw = mail.read_text(errors="replace")
            message, patch = folder / f"{mail.name}.msg", folder / f"{mail.name}.patch"
            gittree.git(folder, "mailinfo", str(message), str(patch), text=raw)
            subject = SUBJECT.search(raw)
            title = " ".join(subject[1].split()) if subject else mail.name
            found.append(Patch(TAG.sub("", title), patch.read_text(errors="replace")))
    return found
