"""A series that attacks the machine of its reviewer, tried for real: it reaches nothing."""

import difflib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import running

from vfio_lab.campaign import mutants
from vfio_lab.kernels import ktree
from vfio_lab.util import jail
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline, wait_until

KERNEL, SCENARIO = "7.3", "test_vf_stays_shut_to_users_who_lack_the_pf_users_token"
FAULT = mutants.FOLDER / KERNEL / "token-wrong-errno.patch"
VFIO = "drivers/vfio"
GONE_S = 5
# Runs from the Makefile, from Kconfig and as a command of the build; says what it could do.
READS = """\
#!/bin/sh
say() {{ echo "attack from $1: $2" >&2; }}
cat {home}/.ssh/key >/dev/null 2>&1 && say "$1" 'read the key' || say "$1" 'no key'
python3 -c "import socket; socket.create_connection(('127.0.0.1', {port}))" 2>/dev/null \\
    && say "$1" 'reached the socket' || say "$1" 'no socket'
touch {home}/planted
"""
WRITES = """\
touch {repository}/planted 2>/dev/null && say "$1" 'wrote the repository' \\
    || say "$1" 'no repository'
touch $(readlink -f {tree}/drivers/pci)/planted 2>/dev/null && say "$1" 'wrote the base' \\
    || say "$1" 'no base'
touch {tree}/Makefile 2>/dev/null && say "$1" 'wrote the sources' || say "$1" 'no sources'
setsid sleep {port} >/dev/null 2>&1 &
"""
ADDED = {
    "Makefile": """
$(shell sh $(srctree)/drivers/vfio/attack.sh Makefile)
$(obj)/attacked: FORCE
\tsh $(srctree)/drivers/vfio/attack.sh script
$(obj)/vfio_main.o: $(obj)/attacked
""",
    "Kconfig": "attack := $(shell,sh $(srctree)/drivers/vfio/attack.sh Kconfig)\n",
    ".gitattributes": "*.c filter=attack\n",
}
REFUSED = ("no key", "no repository", "no base", "no sources", "no socket")

pytestmark = pytest.mark.skipif(jail.why_not() is not None, reason=f"no jail: {jail.why_not()}")


@pytest.fixture
def home(tmp_path):
    """A home with a key and a filter that git would run, and a repository beside it."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh/key").write_text("secret")
    attack = f"touch {folder}/filtered; cat"
    (folder / ".gitconfig").write_text(
        f'[filter "attack"]\n\tsmudge = {attack}\n\tclean = {attack}\n'
    )
    (folder / "linux").mkdir()
    return folder


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def series(tmp_path, home, port):
    """Return what makes patches whose code attacks whoever builds it, and that change an errno."""
    cache = Cache.default().open()
    if not list((cache.root / ktree.KIND).glob(f"*/{ktree.READY}")):
        pytest.skip(f"needs the built source tree of kernel {KERNEL}, which `vfio-lab try` makes")
    source = ktree.ensure_tree(KERNEL, cache).bench.tree / VFIO
    facts = {"home": home, "repository": home / "linux", "port": port, "tree": "$(pwd)/.."}

    def made(script):
        files = {**ADDED, "attack.sh": script.format(**facts)}
        path = tmp_path / "attack.patch"
        path.write_text("".join(diff(source, name, text) for name, text in files.items()))
        return [FAULT, path]

    return made


def diff(folder, name, added):
    """Return a patch that adds text to the end of a file, or makes the file."""
    path = folder / name
    before = path.read_text().splitlines(keepends=True) if path.exists() else []
    after = [*before, *added.splitlines(keepends=True)]
    old = f"a/{VFIO}/{name}" if before else "/dev/null"
    return "".join(difflib.unified_diff(before, after, old, f"b/{VFIO}/{name}"))


def results(where):
    (path,) = where.glob("after/*/results.json")
    return json.loads(path.read_text())


def tried(series, home, *options):
    lab = Path(sys.executable).parent / "vfio-lab"
    words = [lab, "try", *series, "--on", KERNEL, "-k", SCENARIO, *options]
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(Cache.default().root.parent),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "VFIO_LAB_PROJECT": str(Path(__file__).parents[2]),
    }
    return subprocess.run(
        words, env=environment, cwd=home / "linux", capture_output=True, text=True, check=False
    )


def test_every_attack_fails_is_in_the_log_and_the_verdict_is_right(series, home, port):
    done = tried(series(READS + WRITES), home)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "after failed: expected EACCES" in " ".join(said.split())
    where = Path(said.rsplit("evidence: ", 1)[1].split()[0])
    (log,) = where.glob("after/*/compile.log")
    assert "unconfined" not in results(where)["kernel"]
    for source in ("Makefile", "Kconfig", "script"):
        for refused in REFUSED:
            assert f"attack from {source}: {refused}\n" in log.read_text(), log.read_text()
    assert sorted(path.name for path in home.iterdir()) == [".gitconfig", ".ssh", "linux"]
    assert not any((home / "linux").iterdir())
    gone = Deadline.after(GONE_S)
    wait_until("its processes to end", lambda: not running(str(port)), gone)


def test_without_a_jail_the_same_series_reaches_it_and_that_is_said(series, home):
    """The succeeding twin, of the attacks that harm nothing but this test's own home."""
    done = tried(series(READS), home, "--no-jail")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "vfio-lab: builds and QEMU run without a jail\n" in done.stderr
    where = Path(said.rsplit("evidence: ", 1)[1].split()[0])
    (log,) = where.glob("after/*/compile.log")
    for reached in ("read the key", "reached the socket"):
        assert f"attack from script: {reached}\n" in log.read_text()
    assert (home / "planted").exists()
    assert results(where)["kernel"]["unconfined"] is True
