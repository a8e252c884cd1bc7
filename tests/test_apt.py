import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from vfio_lab.cli import main
from vfio_lab.errors import HostError
from vfio_lab.kernels import ksource
from vfio_lab.util import apt
from vfio_lab.util.cache import Cache

NO_KEYS = apt.Mirror("http://archive.invalid/debian", None)
TOLD = "http://a.invalid/debian/|bookworm|main|Debian|Debian"
UNTOLD = "http://a.invalid/debian/|bookworm|main|$(ORIGIN)|$(LABEL)"


FakeTools = Callable[[str, str], None]


@pytest.fixture
def fake_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """Return a maker of commands that come first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("listing", "uri"),
    [
        (TOLD, "http://a.invalid/debian"),
        (UNTOLD, "http://a.invalid/debian"),
        ("http://a.invalid/debian/|bookworm|main||", "http://a.invalid/debian"),
        ("http://a.invalid/mirror/|trixie|main|Debian|Debian", "http://a.invalid/mirror"),
        (
            "http://b.invalid/debian|trixie-backports|main|Debian Backports|Debian Backports\n"
            + TOLD,
            "http://a.invalid/debian",
        ),
        (
            "http://s.invalid/debian-security/|bookworm-security|main|Debian|Debian-Security\n"
            + TOLD,
            "http://a.invalid/debian",
        ),
    ],
)
def test_the_mirror_is_that_of_debians_main_archive(listing: str, uri: str) -> None:
    assert apt.choose_mirror(listing) == uri


@pytest.mark.parametrize(
    "listing",
    [
        "",
        "http://u.invalid/ubuntu/|noble|main|Ubuntu|Ubuntu",
        "http://u.invalid/ubuntu/|noble|main|$(ORIGIN)|$(LABEL)",
        "http://s.invalid/debian-security/|bookworm-security|main|Debian|Debian-Security",
        "http://d.invalid/linux/debian/|bookworm|stable|$(ORIGIN)|$(LABEL)",
        "http://h.invalid/|bookworm|main|$(ORIGIN)|$(LABEL)",
        "http://h.invalid/debian/|bookworm|main|Someone|Someone",
        "nonsense",
    ],
)
def test_third_parties_and_other_archives_are_no_mirror(listing: str) -> None:
    assert apt.choose_mirror(listing) is None


def test_a_host_without_a_debian_source_is_told_what_to_add(fake_tools: FakeTools) -> None:
    fake_tools("apt-get", "true")
    with pytest.raises(HostError, match="no source of Debian's main archive") as refusal:
        apt.mirror()
    assert refusal.value.hint is not None
    assert apt.MIRROR in refusal.value.hint


def test_the_doctor_says_which_mirror_there_is(
    fake_tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for listing, said in (("", "X mirror       this host's apt has no source"), (TOLD, TOLD[:23])):
        fake_tools("apt-get", f"echo '{listing}'")
        done = CliRunner().invoke(main, ["doctor"])
        assert said in done.output
        assert (done.exit_code == 2) or listing


def test_before_the_first_update_the_sources_alone_tell_the_mirror(fake_tools: FakeTools) -> None:
    fake_tools("apt-get", f"case $2 in --no-release-info) echo '{UNTOLD}';; esac")
    assert apt.mirror().uri == "http://a.invalid/debian"


def test_an_unsigned_archive_is_refused(tmp_path: Path) -> None:
    suite = tmp_path / "archive/dists/trixie/main/binary-amd64"
    suite.mkdir(parents=True)
    (suite / "Packages").write_text("")
    (suite.parent.parent / "Release").write_text("Suite: trixie\nComponents: main\n")
    unsigned = apt.Mirror(f"file:{tmp_path}/archive", None)
    with (
        apt.session(Cache(tmp_path / "cache"), unsigned) as tool,
        pytest.raises(HostError) as refusal,
    ):
        tool.update("trixie")
    assert "not signed" in (refusal.value.tail or "")
    assert refusal.value.hint == apt.FETCH_HINT


def test_a_suite_that_the_mirror_lacks_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    empty = apt.Mirror(f"file:{tmp_path}/archive", None)
    with apt.session(Cache(tmp_path / "cache"), empty) as tool:
        assert tool.update("trixie") is False


def test_nothing_of_a_session_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    stale = cache.open().root / "apt/state"
    stale.mkdir(parents=True)
    with apt.session(cache, NO_KEYS) as tool:
        assert (tool.folder / "apt.conf").exists()
    assert not (cache.root / "apt").exists()


SHOWN = """\
Package: linux-source-6.1
Version: 6.1.176-1
Depends: xz-utils
Size: 3
SHA256: abc
"""
WANTED = ksource.Wanted("linux-source-6.1", ("bookworm", "trixie"))


@pytest.fixture
def archive(fake_tools: FakeTools, tmp_path: Path) -> Path:
    """A mirror that has the package in its second suite; what it says can be edited."""
    shown = tmp_path / "shown"
    shown.write_text(SHOWN)
    fake_tools(
        "apt-get",
        f"""
        case "$*" in
        *" --format "*) echo '{TOLD}';;
        *" update") ;;
        *" download "*)
            echo dlstatus:1:50.0:Retrieving
            test ! -e {tmp_path}/broken || {{ echo E: cut off >&2; exit 100; }}
            echo "$*" >> {tmp_path}/downloads
            echo deb > linux-source-6.1_0_all.deb;;
        esac
        """,
    )
    fake_tools(
        "apt-cache",
        f"""
        grep -q ' trixie ' "$(dirname "$2")/sources.list" || {{
            test "$3" != pkgnames || echo linux-source-6.9
            exit 0
        }}
        test "$3" != show || cat {shown}
        """,
    )
    return shown


@pytest.mark.usefixtures("archive")
def test_a_source_is_fetched_from_the_first_suite_that_has_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert ksource.pinned(cache, WANTED) is None
    package, file = ksource.ensure_source(cache, WANTED)
    assert package == apt.Package("linux-source-6.1", "6.1.176-1", "trixie", "abc", 3)
    assert file.read_text() == "deb\n"
    assert ksource.pinned(cache, WANTED) == package


def test_a_pinned_source_is_used_after_the_archive_has_moved_on(
    archive: Path, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    before = ksource.ensure_source(cache, WANTED)
    archive.write_text(SHOWN.replace("6.1.176-1", "6.1.180-1").replace("abc", "def"))
    assert ksource.ensure_source(cache, WANTED) == before
    assert (tmp_path / "downloads").read_text().count("6.1.176-1") == 1
    package, entry = ksource.fetch(cache, WANTED)
    assert package.version == "6.1.180-1"
    assert ksource.ensure_source(cache, WANTED) == (package, next(entry.glob("*.deb")))
    assert cache.keys(ksource.KIND) == ["linux-source-6.1-def"]


def test_a_failed_update_keeps_what_was_pinned(archive: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    before = ksource.ensure_source(cache, WANTED)
    archive.write_text(SHOWN.replace("abc", "def"))
    (tmp_path / "broken").touch()
    with pytest.raises(HostError, match="cannot fetch linux-source") as refusal:
        ksource.fetch(cache, WANTED)
    assert refusal.value.tail == "E: cut off"
    assert ksource.ensure_source(cache, WANTED) == before


@pytest.mark.usefixtures("archive")
def test_an_interrupted_download_never_counts(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    (tmp_path / "broken").touch()
    with pytest.raises(HostError):
        ksource.ensure_source(cache, WANTED)
    assert ksource.pinned(cache, WANTED) is None
    assert cache.keys(ksource.KIND) == []
    (tmp_path / "broken").unlink()
    assert ksource.ensure_source(cache, WANTED)[0].version == "6.1.176-1"


@pytest.mark.usefixtures("archive")
def test_a_damaged_source_is_fetched_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    _package, file = ksource.ensure_source(cache, WANTED)
    file.write_text("half")
    assert ksource.ensure_source(cache, WANTED)[1].read_text() == "deb\n"


def test_a_series_that_has_left_the_archive_is_reported_with_what_is_there(
    archive: Path, tmp_path: Path
) -> None:
    archive.write_text("")
    with pytest.raises(HostError, match="any more") as refusal:
        ksource.ensure_source(Cache(tmp_path / "cache"), WANTED)
    assert refusal.value.seen == "linux-source-6.9"
