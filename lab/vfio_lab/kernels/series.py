"""Patch series: from mailboxes, files, folders, git ranges and mailing list archives."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from vfio_lab.errors import UsageError
from vfio_lab.kernels import archive, gittree

STANDARD_INPUT = "-"
TOUCHED = re.compile(
    r"^(?:--- a/|\+\+\+ b/|rename from |rename to |diff --git a/(?=\S+ b/))(\S+)", re.MULTILINE
)
SUBJECT = re.compile(r"^Subject: *(.*)$", re.MULTILINE)
RAW_SUBJECT = re.compile(r"^Subject: *(.*(?:\n[ \t].*)*)", re.MULTILINE)
NUMBER = re.compile(r"^\[[^]]*?(\d+)/\d+\]")
# An mbox starts with "From ", a single mail with its header.
MAIL = re.compile(r"\A(?:From \S+ |(?:[\w-]+: .*\n(?:[ \t].*\n)*)*Subject: )")
BASE_COMMIT = re.compile(r"^base-commit: ([0-9a-f]{7,64})$", re.MULTILINE)
RANGE = re.compile(r"^(?P<start>(?:[^.]|\.(?!\.))*)\.\.(?P<end>[^.].*|)$")
PATCHES = ("*.patch", "*.diff", "*.mbox", "*.mbx", "*.eml", "[0-9]*")
EXPECTED = "a mailbox, a patch file, a folder, -, a git range, a Message-ID or an archive link"


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


@dataclass(frozen=True)
class CommitRange:
    """A git range.

    Args:
        words: the range as the user wrote it.
        start: the last commit before the range.
        end: the last commit in it.
    """

    words: str
    start: str
    end: str


@dataclass(frozen=True)
class Series:
    """A patch series.

    Args:
        patches: the patches, in order.
        base_commit: the hash in its `base-commit:` line, empty if there is none.
        commits: the git range that it was read from, if it was.
    """

    patches: tuple[Patch, ...]
    base_commit: str = ""
    commits: CommitRange | None = None


def read_series(sources: Sequence[str], repository: Path) -> Series:
    """Return the series that a user names.

    Args:
        sources: mailboxes, patch files, folders of them, `-`, ranges such as `master..topic`,
            Message-IDs, or links into a mailing list archive.
        repository: the repository for ranges.

    Raises:
        UsageError: there is no such source, or it contains no patch.
        HostError: b4 is missing, or does not reach the archive.
    """
    found: list[Series] = []
    for source in sources:
        one = _read(source, repository)
        patches = tuple(patch for patch in one.patches if patch.touched)  # not a cover letter
        if not patches:
            name = "standard input" if source == STANDARD_INPUT else source
            raise UsageError(f"{name} holds no patch", expected="unified diffs with a/ and b/")
        found.append(Series(patches, one.base_commit, one.commits))
    return Series(
        tuple(patch for one in found for patch in one.patches),
        next((one.base_commit for one in found if one.base_commit), ""),
        next((one.commits for one in found if one.commits), None),
    )


def read_mail(text: str) -> Series | None:
    """Return the series in a mail or a mailbox, None if there is none in it.

    Args:
        text: a message as a mail program hands it on, or as a mailbox has it.

    Raises:
        BuildError: git cannot read it as a mail.
    """
    found = _parse(text, "the mail")
    return found if any(patch.touched for patch in found.patches) else None


def touched(patches: Iterable[Patch]) -> frozenset[PurePath]:
    """Return all files that a series touches."""
    return frozenset().union(*(patch.touched for patch in patches))


def _read(source: str, repository: Path) -> Series:
    path = Path(source).expanduser()
    if source == STANDARD_INPUT:
        return _parse(sys.stdin.buffer.read().decode(errors="replace"), "standard input")
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return _parse(path.read_text(errors="replace"), path.name)
    if archive.is_message(source):
        mailbox, cover = archive.fetch_series(source)
        found = _parse(mailbox, source)
        return replace(found, base_commit=found.base_commit or _base_commit(cover))
    if (match := RANGE.match(source)) is not None:
        return _range(source, match["start"], match["end"], repository)
    raise UsageError(f"there is no patch {source}", expected=EXPECTED)


def _folder(folder: Path) -> Series:
    """Return the series in a Maildir, or in a folder of patch files."""
    if (folder / "new").is_dir() and (folder / "cur").is_dir():
        with tempfile.TemporaryDirectory(prefix="vfio-lab-") as scratch:
            gittree.git(Path(scratch), "mailsplit", f"-o{scratch}", str(folder.resolve()))
            return _mails([path.read_text(errors="replace") for path in sorted(_files(scratch))])
    paths = sorted({path for glob in PATCHES for path in folder.glob(glob) if path.is_file()})
    parts = [_parse(path.read_text(errors="replace"), path.name) for path in paths]
    base = next((one.base_commit for one in parts if one.base_commit), "")
    return Series(tuple(patch for one in parts for patch in one.patches), base)


def _range(words: str, start: str, end: str, repository: Path) -> Series:
    top = gittree.find_repository(repository)
    if top is None:
        raise UsageError(
            f"{repository.resolve()} is in no git repository, and {words} looks like a git range",
            expected=EXPECTED,
            hint="name the repository with -C",
        )
    first, last = (gittree.commit_hash(top, name or "HEAD") for name in (start, end))
    # As `git format-patch` understands a range whose ends have diverged.
    fork = gittree.git(top, "merge-base", first, last).strip()
    options = ("--stdout", "--no-ext-diff", "--no-textconv", "--binary", "--full-index")
    text = gittree.git(top, "format-patch", *options, f"{fork}..{last}")
    if not text:
        raise UsageError(f"there is no commit in {words} of {top}", expected="an older..newer end")
    return Series(_parse(text, words).patches, commits=CommitRange(words, fork, last))


def _parse(text: str, name: str) -> Series:
    if not MAIL.match(text):
        return Series((Patch(name, text),), _base_commit(text))
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as folder:
        gittree.git(Path(folder), "mailsplit", "-b", f"-o{folder}", text=text)
        return _mails([path.read_text(errors="replace") for path in sorted(_files(folder))])


def _mails(mails: Sequence[str]) -> Series:
    """Return the series in some mails, decoded, in the order of their numbers."""
    found: list[tuple[int | None, Patch, str]] = []
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as name:
        message, patch = Path(name, "message"), Path(name, "patch")
        for raw in mails:
            said = gittree.git(Path(name), "mailinfo", str(message), str(patch), text=raw)
            subject = SUBJECT.search(said)
            diff = patch.read_text(errors="replace")
            base = _base_commit(message.read_text(errors="replace") + "\n" + diff)
            one = Patch(subject[1] if subject else "a mail without a subject", diff)
            found.append((_number(raw), one, base))
    base = next((base for _number, _patch, base in found if base), "")
    patches = [(number, patch) for number, patch, _base in found if patch.touched]
    numbers = [number for number, _patch in patches if number is not None]
    if len(set(numbers)) == len(patches):  # a thread is in the order in which mails arrived
        patches.sort(key=lambda one: one[0] or 0)
    return Series(tuple(patch for _number, patch in patches), base)


def _number(mail: str) -> int | None:
    subject = RAW_SUBJECT.search(mail)
    match = NUMBER.match(" ".join(subject[1].split())) if subject else None
    return int(match[1]) if match else None


def _base_commit(text: str) -> str:
    match = BASE_COMMIT.search(text)
    return match[1] if match else ""


def _files(folder: str) -> list[Path]:
    return [path for path in Path(folder).iterdir() if path.is_file()]
