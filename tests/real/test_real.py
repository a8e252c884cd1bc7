"""Real builds, real guests: what reviewers and bisecters do, from end to end.

All is built in the user's own cache, and takes minutes while that is cold.
"""

import contextlib
import json
import shlex
import shutil
import subprocess
import threading
from pathlib import Path
from types import ModuleType

import drgn
import pytest
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms
from tests.support.command import vfio_lab
from tests.support.repositories import fingerprint

from vfio_lab.campaign import bisection, mutants
from vfio_lab.errors import LabError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.interactive import gdb
from vfio_lab.kernels import gittree, ktree
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util.cache import Cache

KERNEL = "7.3"
SCENARIO = "scenarios/vf_token/test_match.py::test_pf_without_vf_users_opens_without_a_token"
WORDS = "test_pf_without_vf_users_opens_without_a_token"
FAULT = mutants.FOLDER / KERNEL / "token-wrong-errno.patch"
PANIC_TIMEOUT_S = 60.0
GIB = 1 << 30
HISTORY = "history"


def abandoned(cache: Cache) -> list[Path]:
    """Return the branches of processes that have ended: others may be at work beside us."""
    branches = (cache.root / ktree.BRANCHES).iterdir()
    owners = {path: path.name.lstrip(".").partition("-")[0] for path in branches}
    return [path for path, pid in owners.items() if not Path("/proc", pid).exists()]


def test_a_patch_is_tried_and_what_changes_is_said(cache: Cache) -> None:
    done = vfio_lab("try", FAULT, "--on", KERNEL, "-k", WORDS, "--json")
    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["before"] == "passed"
    assert found["after"].startswith("failed: expected EACCES")
    assert f"{SCENARIO}: passed before, failed now\n" in done.stderr
    assert cache.root.exists()


def test_a_patch_for_another_tree_says_where(cache: Cache, tmp_path: Path) -> None:
    strange = tmp_path / "strange.patch"
    strange.write_text(FAULT.read_text().replace('"Incorrect VF', '"Unheard of VF'))
    done = vfio_lab("try", strange, "--on", KERNEL, "-k", WORDS)
    assert done.returncode == 125
    assert "drivers/vfio/pci/vfio_pci_core.c:19" in done.stderr
    assert abandoned(cache) == []


def test_a_patch_that_does_not_compile_says_where(cache: Cache, tmp_path: Path) -> None:
    broken = tmp_path / "broken.patch"
    broken.write_text(FAULT.read_text().replace("+\t\t\treturn -EPERM;", "+\t\t\treturn NO_SUCH;"))
    done = vfio_lab("try", broken, "--on", KERNEL, "-k", WORDS)
    assert done.returncode == 125
    assert "drivers/vfio/pci/vfio_pci_core.c:1977: error: " in done.stderr
    assert cache.root.exists()


def test_a_fault_is_noticed_and_a_rebuild_is_not(cache: Cache) -> None:
    done = vfio_lab("mutate", "--on", KERNEL, FAULT.stem, "-k", WORDS, "--json")
    assert done.returncode == 0, done.stderr
    control, fault = json.loads(done.stdout)
    assert (control["judged"], control["killed by"]) == (True, "")
    assert fault["killed by"] == SCENARIO
    assert cache.root.exists()


def test_a_bisection_finds_the_commit_past_broken_builds_and_boots(
    cache: Cache, repository: Path, history: ModuleType, tmp_path: Path
) -> None:
    first, last = gittree.git(repository, "rev-list", "--max-parents=0", "HEAD").strip(), "HEAD"
    before = fingerprint(repository)
    question = bisection.Question(SCENARIO)
    found = bisection.find_culprit((first, last), repository, question, tmp_path, cache)
    (culprit,) = found.commits
    subject = gittree.git(repository, "show", "-s", "--format=%s", culprit).strip()
    assert subject == history.CULPRIT
    assert bisection.SKIP in {verdict.code for verdict in found.verdicts.values()}
    assert found.revert is not None
    assert found.revert.code == bisection.GOOD
    assert fingerprint(repository) == before


def test_kernels_are_compared_a_source_tree_among_them(repository: Path, tmp_path: Path) -> None:
    page = tmp_path / "matrix.html"
    done = vfio_lab("matrix", KERNEL, repository, "-k", WORDS, "--json", "--html", page)
    assert done.returncode == 1, done.stderr
    packaged, own = json.loads(done.stdout)[0]["outcomes"].values()
    assert (packaged, own) == ("passed", "failed")
    assert "BROKEN" in page.read_text()
    assert gittree.git(repository, "status", "--porcelain", "--ignored") == ""


@pytest.mark.usefixtures("cache")
def test_what_scenarios_run_is_counted_line_by_line() -> None:
    done = vfio_lab("coverage", "--on", KERNEL, "-k", WORDS)
    assert done.returncode == 0, done.stderr
    shares = {line.split()[-1]: line.split() for line in done.stdout.splitlines() if "/" in line}
    share, percent, hit, _of, lines, *_rest = shares["drivers/vfio/group.c"]
    assert percent == "%"
    assert 0 < int(hit) < int(lines)
    assert float(share) == pytest.approx(100 * int(hit) / int(lines), abs=0.1)
    assert Path(done.stdout.split()[-1]).exists()


def test_gdb_attaches_with_the_symbols_of_modules(cache: Cache, tmp_path: Path) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("this host lacks gdb")
    guest_factory = GuestFactory.open(cache, KERNEL)
    with gdb.stubbed(guest_factory, find_topology("igb"), tmp_path) as (guest, socket):
        line = gdb.gdb(guest, socket, gdb.symbols_folder(guest_factory.kernel, cache))
        ask = ["-batch", "-ex", "info address vfio_pci_core_match_token_uuid"]
        command = [*shlex.split(line), *ask]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert '"vfio_pci_core_match_token_uuid" is at 0xffffffffa' in done.stdout, done.stderr


def test_a_panic_leaves_a_core(cache: Cache, tmp_path: Path) -> None:
    guest_factory = GuestFactory.open(cache, KERNEL)
    with gdb.stubbed(guest_factory, find_topology("igb"), tmp_path) as (guest, _socket):

        def crash() -> None:
            with contextlib.suppress(LabError):
                guest.root.write_file("/proc/sysrq-trigger", "c")

        gdb.pause_on_panic(guest)
        threading.Thread(target=crash, daemon=True).start()
        core = gdb.await_core(guest, PANIC_TIMEOUT_S)
    program = drgn.Program()
    program.set_core_dump(core)
    program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
    assert program["UTS_RELEASE"].string_().decode() == guest_factory.kernel.release
    panic = program.symbol("panic")
    assert any(program.read(panic.address, panic.size))
