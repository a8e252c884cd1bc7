"""Real builds, real guests: what reviewers and bisecters do, from end to end.

All is built in the user's own cache, and takes minutes while that is cold.
"""

import contextlib
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import drgn
import pytest
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

from vfio_lab.campaign import bisection, mutants
from vfio_lab.errors import LabError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.interactive import gdb
from vfio_lab.kernels import gittree, ktree
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util import host
from vfio_lab.util.cache import Cache, digest

KERNEL = "7.3"
SCENARIO = "scenarios/vf_token/test_match.py::test_pf_without_vf_users_opens_without_a_token"
WORDS = "test_pf_without_vf_users_opens_without_a_token"
FAULT = mutants.FOLDER / KERNEL / "token-wrong-errno.patch"
PANIC_TIMEOUT_S = 60.0
GIB = 1 << 30
HISTORY = "history"


def vfio_lab(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    command = [sys.executable, "-c", "from vfio_lab.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def cache() -> Cache:
    """The user's own cache: what is built for this is of use later."""
    lacking = [tool.name for purpose in ("run", "kernel", "tree") for tool in host.missing(purpose)]
    if lacking:
        pytest.skip(f"this host lacks {', '.join(lacking)}")
    store = Cache.default().open()
    if host.free_bytes(store.root) < 12 * GIB:
        pytest.skip("this host lacks 12 GiB of disk for kernel trees")
    return store


def history_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location(HISTORY, Path(__file__).with_name("history.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[HISTORY] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def repository(cache: Cache) -> Path:
    """The packaged kernel with a history of 18 commits; kept, since it takes a minute to make."""
    tree, module = ktree.ensure_tree(KERNEL, cache), history_module()
    key = digest([tree.bench.work.name, *map(repr, module.STEPS)])[:16]
    made = cache.root / ktree.KIND / f"{HISTORY}-{key}" / "linux"
    if not (gittree.has_history(made) and gittree.knows(made, f"HEAD~{len(module.STEPS)}")):
        for stale in made.parent.parent.glob(f"{HISTORY}-*"):
            shutil.rmtree(stale)
        module.make(tree.bench.tree, made)
    return made


def refs(repository: Path) -> str:
    """Return what a bisection must leave as it was; in full, as an abbreviation may grow."""
    return gittree.git(repository, "for-each-ref")


def worktrees(repository: Path) -> int:
    """Return how many there are: the repository's own, and those that somebody left."""
    return gittree.git(repository, "worktree", "list", "--porcelain").count("worktree ")


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
    cache: Cache, repository: Path, tmp_path: Path
) -> None:
    first, last = gittree.git(repository, "rev-list", "--max-parents=0", "HEAD").strip(), "HEAD"
    before = refs(repository)
    found = bisection.find_culprit((first, last), repository, SCENARIO, tmp_path, cache)
    (culprit,) = found.commits
    subject = gittree.git(repository, "show", "-s", "--format=%s", culprit).strip()
    assert subject == history_module().CULPRIT
    assert bisection.SKIP in {verdict.code for verdict in found.verdicts.values()}
    assert (refs(repository), worktrees(repository)) == (before, 1)


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
    gdb = shutil.which("gdb")
    if gdb is None:
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
