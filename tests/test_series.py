"""Patch series: read by the real git from wherever people have them."""

import io
import re
from pathlib import Path, PurePath

import pytest
from tests.support.repositories import WHO, commit, new_repository

from vfio_lab.campaign.compare import rows, told
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.errors import HostError, UsageError
from vfio_lab.kernels import archive, gittree, series
from vfio_lab.kernels.make_output import complaint
from vfio_lab.util import host

FILE = "drivers/vfio/vfio_main.c"
BEFORE = "one\ntwo\nthree\nfour\nfive\n"
AFTER = BEFORE.replace("three", "3")
DIFF = f"""\
--- a/{FILE}
+++ b/{FILE}
@@ -1,5 +1,5 @@
 one
 two
-three
+3
 four
 five
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit on top of another, and with a third."""
    tree = new_repository(tmp_path / "linux")
    for text, subject in ((BEFORE, "begin"), (AFTER, "vfio: dräi"), (AFTER + "six\n", "vfio: Six")):
        commit(tree, subject, {FILE: text})
    return tree


def formatted(repository: Path, *words: str) -> str:
    return gittree.git(repository, *WHO, "format-patch", "--stdout", *words, "HEAD~2..HEAD")


def read(*sources: str | Path, repository: Path = Path("/")) -> series.Series:
    return series.read_series([str(source) for source in sources], repository)


def patches(found: series.Series) -> list[tuple[str, str]]:
    """Return the patches without the empty lines at the end of a mail."""
    return [(patch.name, patch.text.rstrip()) for patch in found.patches]


def test_a_plain_diff_is_one_patch_however_many_files_it_has(tmp_path: Path) -> None:
    path, other = tmp_path / "three.patch", FILE.replace("main", "group")
    path.write_text(DIFF + DIFF.replace(FILE, other))
    (patch,) = read(path).patches
    assert (patch.name, patch.touched) == ("three.patch", {PurePath(FILE), PurePath(other)})


def test_all_forms_of_a_series_are_the_same_series(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read("HEAD~2..HEAD", repository=repository / "drivers")
    assert [patch.name for patch in found.patches] == ["vfio: dräi", "vfio: Six"]
    assert found.commits is not None
    assert found.commits.start == gittree.commit_hash(repository, "HEAD~2")
    mailbox, folder, maildir = (tmp_path / name for name in ("mbox", "patches", "maildir"))
    mailbox.write_text(formatted(repository, "--full-index", "--cover-letter"))
    options = ("-q", "--full-index", "--cover-letter", "-o", str(folder))
    gittree.git(repository, *WHO, "format-patch", *options, "HEAD~2..HEAD")
    for name in ("cur", "new"):
        (maildir / name).mkdir(parents=True)
    for path in folder.iterdir():
        (maildir / "new" / path.name).write_text(path.read_text())
    assert patches(read(mailbox)) == patches(found)
    assert patches(read(folder)) == patches(found)
    assert patches(read(maildir)) == patches(found)
    assert patches(read(*sorted(folder.iterdir())[1:])) == patches(found)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(mailbox.read_bytes())))
    assert patches(read("-")) == patches(found)


def test_a_saved_thread_is_put_in_order_and_its_replies_are_left_out(
    repository: Path, tmp_path: Path
) -> None:
    mails = re.split(r"(?m)^(?=From [0-9a-f]{40} )", formatted(repository, "--cover-letter"))[1:]
    quoted = "".join(f"> {line}\n" for line in mails[1].splitlines())
    reply = f"From x Thu Jan  1 00:00:00 1970\nSubject: Re: [PATCH 1/2] vfio: dräi\n\n{quoted}"
    thread = tmp_path / "thread.mbox"
    thread.write_text("".join([mails[2], reply, mails[0], mails[1]]))
    assert [patch.name for patch in read(thread).patches] == ["vfio: dräi", "vfio: Six"]


def test_one_mail_without_an_envelope_is_decoded(repository: Path, tmp_path: Path) -> None:
    text = gittree.git(repository, "format-patch", "--stdout", "HEAD~..HEAD")
    mail = tmp_path / "mail.eml"
    mail.write_text(text.partition("\n")[2])
    (patch,) = read(mail).patches
    assert (patch.name, patch.touched) == ("vfio: Six", {PurePath(FILE)})


def test_the_base_commit_of_a_cover_letter_or_of_a_patch_is_read(
    repository: Path, tmp_path: Path
) -> None:
    base = gittree.commit_hash(repository, "HEAD~2")
    mailbox = tmp_path / "mbox"
    for letter in ((), ("--cover-letter",)):
        mailbox.write_text(formatted(repository, "--base", base, *letter))
        assert read(mailbox).base_commit == base
    mailbox.write_text(formatted(repository))
    assert not read(mailbox).base_commit


def test_what_is_no_patch_is_refused(tmp_path: Path, repository: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no patch")
    (tmp_path / "empty").mkdir()
    for source in (text, "absent.patch", tmp_path / "empty", "HEAD..HEAD"):
        with pytest.raises(UsageError, match=r"no (patch|commit)"):
            read(source, repository=repository)
    with pytest.raises(UsageError, match="has no commit a"):
        read("a..b", repository=repository)
    with pytest.raises(UsageError, match=r"is in no git repository, and a\.\.b looks"):
        read("a..b", repository=tmp_path)


def test_a_message_needs_b4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "which", lambda _name: None)
    for message in ("20260101.1-2-x@example.org", "<a@b>", "https://lists.invalid/r/a@b/"):
        with pytest.raises(HostError) as failure:
            read(message)
        assert (failure.value.seen, failure.value.exit_code) == ("no b4 on the PATH", 2)
    for other in ("HEAD@{1}..HEAD", "a..b"):
        assert not archive.is_message(other)


@pytest.mark.parametrize(
    ("log", "place"),
    [
        ("  CC x.o\n../drivers/vfio/a.c:12:3: error: bad\nmore", "drivers/vfio/a.c:12: error: bad"),
        ("drivers/a.h:1: fatal error: x.h: no\n", "drivers/a.h:1: error: x.h: no"),
        ('ERROR: modpost: "f" undefined!\n', 'modpost: "f" undefined!'),
        ("all is well\n", None),
    ],
)
def test_where_it_does_not_compile_is_said(log: str, place: str | None) -> None:
    assert complaint(log) == place


def ended(**outcomes: tuple[Outcome, str]) -> Results:
    records = [
        Record(name, ("A01",), "igb", outcome, reason, 1.0, "")
        for name, (outcome, reason) in outcomes.items()
    ]
    return Results({}, {}, 0.0, 1.0, 0, tuple(records))


def test_only_what_behaves_otherwise_differs() -> None:
    before = ended(
        same=(Outcome.PASSED, ""),
        worse=(Outcome.PASSED, ""),
        random=(Outcome.FAILED, "token 11e8 refused with EPERM"),
        other=(Outcome.FAILED, "EPERM"),
        gone=(Outcome.PASSED, ""),
    )
    after = ended(
        same=(Outcome.PASSED, ""),
        worse=(Outcome.FAILED, "AssertionError: expected\nEACCES"),
        random=(Outcome.FAILED, "token 22f9 refused with EPERM"),
        other=(Outcome.FAILED, "EACCES"),
    )
    found = {row.nodeid: row for row in rows([before, after])}
    assert {name for name, row in found.items() if row.differs} == {"worse", "other", "gone"}
    assert {name for name, row in found.items() if row.worsened} == {"worse"}
    assert [told(record) for record in found["worse"].records] == [
        "passed",
        "failed: expected EACCES",
    ]
    assert told(found["gone"].records[1]) == "not run"
