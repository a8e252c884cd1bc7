"""A series fetched by the real b4 from an archive on this host."""

import gzip
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.b4 import b4
from support.command import INTERRUPTIBLE
from support.processes import running
from support.repositories import WHO, commit, new_repository

from vfio_lab.cli import INTERRUPTED
from vfio_lab.errors import HostError, UsageError
from vfio_lab.kernels import gittree, series

FILE = "drivers/vfio/vfio_main.c"
FETCH_S = 60
__all__ = ["b4"]


class Archive(http.server.ThreadingHTTPServer):
    """Serves one thread, as public-inbox does."""

    def __init__(self, mailbox: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mailbox = gzip.compress(mailbox.encode())
        (self.message, *_others) = re.findall(r"^Message-Id: <(.*)>$", mailbox, re.M | re.I)

    @property
    def link(self) -> str:
        """Where a message is, `%s` standing for its ID."""
        return f"http://127.0.0.1:{self.server_port}/all/%s"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers what b4 asks."""

    server: Archive

    def do_GET(self) -> None:
        """Send the thread, if it is asked for."""
        known = self.server.message.partition("@")[0] in self.path
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(self.server.mailbox if known else b"")

    do_HEAD = do_POST = do_GET  # noqa: N815 - the names that the server looks for

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def base(tmp_path: Path) -> str:
    repository = new_repository(tmp_path / "linux")
    base = commit(repository, "begin", {FILE: "one\n"})
    commit(repository, "vfio: Two", {FILE: "two\n"})
    commit(repository, "vfio: Three", {FILE: "three\n"})
    return base


@pytest.fixture
def archive(
    tmp_path: Path, base: str, b4: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Archive]:
    """An archive with a series, which b4 is set up to use."""
    words = ("--stdout", "--thread", "--cover-letter", f"--base={base}", "HEAD~2..HEAD")
    server = Archive(gittree.git(tmp_path / "linux", *WHO, "format-patch", *words))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / ".gitconfig").write_text(f"[b4]\n\tmidmask = {server.link}\n")
    program = tmp_path / "bin/b4"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={b4} exec {sys.executable} {b4}/bin/b4 "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, os.fspath(tmp_path))
    yield server
    server.shutdown()
    server.server_close()


def test_a_message_id_and_a_link_bring_the_series_and_its_base(archive: Archive, base: str) -> None:
    for source in (archive.message, f"<{archive.message}>", archive.link % archive.message):
        found = series.read_series([source], Path("/"))
        assert [patch.name for patch in found.patches] == ["vfio: Two", "vfio: Three"]
        assert found.base_commit == base


def test_what_the_archive_lacks_is_said_in_one_line(archive: Archive) -> None:
    with pytest.raises(UsageError, match=r"the archive has no series with nobody@example\.org"):
        series.read_series(["nobody@example.org"], Path("/"))
    archive.shutdown()
    archive.server_close()
    with pytest.raises(HostError, match=r"b4 cannot fetch other@example\.org") as failure:
        series.read_series(["other@example.org"], Path("/"))
    assert failure.value.exit_code == 2
    assert "\n" not in (failure.value.seen or "")


def test_ctrl_c_ends_a_fetch_and_leaves_nothing(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", os.fspath(scratch))
    with socket.create_server(("127.0.0.1", 0)) as server:  # which accepts and never answers
        server.settimeout(FETCH_S)
        link = f"http://127.0.0.1:{server.getsockname()[1]}/all/{archive.message}"
        command = [*INTERRUPTIBLE, "try", link, "-C", tmp_path / "linux"]
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            wire, _ = server.accept()
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=FETCH_S)
            wire.close()
    assert (process.returncode, "Traceback" in said) == (INTERRUPTED, False), said
    assert list(scratch.iterdir()) == []
    assert not running(link)
