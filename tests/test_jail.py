"""What the code of a kernel tree that others wrote can do while it is built."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.processes import running

from vfio_lab.errors import HostError
from vfio_lab.kernels import kbuild
from vfio_lab.kernels.compiler_cache import compiler_cache
from vfio_lab.util import host, jail
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline, wait_until

GONE_S = 5
MAKEFILE = """\
all:
	cat $(HOME)/.ssh/id_ed25519 > lab-out/stolen || echo "no key"
	echo mine > $(HOME)/planted || echo "home is closed"
	echo mine >> $(CURDIR)/Makefile || echo "the tree is closed"
	python3 -c "import socket; socket.create_connection(('127.0.0.1', $(PORT)))" \\
		|| echo "no network"
	setsid sh -c 'sleep $(PORT); :' >/dev/null 2>&1 & echo $$! > lab-out/outlived
	env | grep SSH_AUTH_SOCK || echo "no agent"
	echo built > lab-out/result
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a key in it, and a way to the user's SSH agent."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh/id_ed25519").write_text("secret")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(folder / "agent"))
    return folder


@pytest.fixture
def bench(home, tmp_path):
    """A tree whose Makefile does what it should not."""
    made = kbuild.Bench(
        kbuild.Job("evil", (), (), 0), tmp_path / "work", Cache(home / "cache").open(), foreign=True
    )
    made.tree.mkdir(parents=True)
    (made.tree / "Makefile").write_text(textwrap.dedent(MAKEFILE))
    return made


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def make(bench, port):
    if (obstacle := jail.why_not()) is not None:
        pytest.skip(f"needs bubblewrap: {obstacle}")
    bench.make("compile", f"PORT={port}", "all")
    return bench.log("compile").read_text()


def test_a_build_gets_its_result_and_nothing_else(bench, home, port):
    log = make(bench, port)
    assert (bench.out / "result").read_text() == "built\n"
    for refused in ("no key", "home is closed", "the tree is closed", "no network", "no agent"):
        assert refused in log
    assert (bench.out / "stolen").read_text() == ""
    assert not (home / "planted").exists()
    assert (bench.tree / "Makefile").read_text() == textwrap.dedent(MAKEFILE)


def test_a_build_leaves_no_process(bench, port):
    make(bench, port)
    gone = Deadline.after(GONE_S)  # the kernel ends a namespace after its first process
    wait_until("the process to end", lambda: not running(f"sleep {port}; :"), gone)


def test_without_a_jail_the_same_build_does_all_of_it(bench, home, port, monkeypatch):
    """The succeeding twin: what the jail prevents would have worked."""
    monkeypatch.setenv(jail.OFF, "1")
    bench.out.mkdir()
    bench.make("compile", f"PORT={port}", "all")
    assert (bench.out / "stolen").read_text() == "secret"
    assert (home / "planted").exists()
    assert (bench.tree / "Makefile").read_text().endswith("mine\n")
    os.kill(int((bench.out / "outlived").read_text()), signal.SIGTERM)


def test_foreign_builds_begin_with_a_copy_of_the_compilers_cache(tmp_path):
    cache = Cache(tmp_path / "cache").open()
    own = compiler_cache(cache, foreign=False)
    (own / "object").write_text("compiled")
    other = compiler_cache(cache, foreign=True)
    assert (other / "object").read_text() == "compiled"
    (other / "object").write_text("poisoned")
    assert (own / "object").read_text() == "compiled"
    assert compiler_cache(cache, foreign=True) == other != own


def test_where_there_is_no_jail_foreign_code_is_refused_and_ones_own_is_built(monkeypatch):
    monkeypatch.setattr(jail, "why_not", lambda: "no bwrap or no prlimit")
    assert jail.confine(["make"], jail.Jail(()), foreign=False) == ["make"]
    with pytest.raises(HostError, match="in a jail only") as refusal:
        jail.confine(["make"], jail.Jail(()), foreign=True)
    assert refusal.value.seen == "no bwrap or no prlimit"
    assert "bubblewrap" in (refusal.value.hint or "")
    assert refusal.value.exit_code == 2


def test_a_jail_that_cannot_be_made_says_why(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    said = "bwrap: No permissions to create new namespace"
    broken.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(jail, "BWRAP", str(broken))
    monkeypatch.setattr(host, "which", Path)
    jail.why_not.cache_clear()
    assert jail.why_not() == said
    jail.why_not.cache_clear()


@pytest.mark.skipif(jail.why_not() is not None, reason=f"no jail: {jail.why_not()}")
@pytest.mark.parametrize(
    ("program", "bound"),
    [
        (("truncate", "--size={}", "file"), jail.FILE_BYTES),
        (
            (os.path.realpath(sys.executable), "-c", "import mmap; mmap.mmap(-1, {})"),
            jail.ADDRESS_SPACE_BYTES,
        ),
    ],
    ids=["a file", "memory"],
)
def test_what_a_build_takes_has_a_bound(tmp_path, program, bound):
    def take(size):
        words = jail.Jail((tmp_path,)).wrap([word.format(size) for word in program])
        return subprocess.run(words, cwd=tmp_path, check=False, capture_output=True).returncode

    assert take(bound + 1) != 0
    assert take(1 << 20) == 0
