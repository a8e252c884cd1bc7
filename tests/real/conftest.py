"""What real builds share: the user's own cache, a kernel with a history, a plain Debian."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.checkouts import change
from support.containers import BASE, call

from vfio_lab.kernels import gittree, ktree
from vfio_lab.util import host
from vfio_lab.util.cache import Cache, digest

KERNEL = "7.3"
GIB = 1 << 30
HISTORY = "history"
DRILL = "drill"


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


@pytest.fixture(scope="session")
def history() -> ModuleType:
    """The module that makes histories."""
    spec = importlib.util.spec_from_file_location(HISTORY, Path(__file__).with_name("history.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[HISTORY] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def repository(cache: Cache, history: ModuleType) -> Path:
    """The packaged kernel with a history of 18 commits; kept, since it takes a minute to make."""
    tree, module = ktree.ensure_tree(KERNEL, cache), history
    key = digest([tree.bench.work.name, *map(repr, module.STEPS)])[:16]
    made = cache.root / ktree.KIND / f"{HISTORY}-{key}" / "linux"
    if not (gittree.has_history(made) and gittree.knows(made, f"HEAD~{len(module.STEPS)}")):
        for stale in made.parent.parent.glob(f"{HISTORY}-*"):
            shutil.rmtree(stale)
        module.make(tree.bench.tree, made)
    return made


@pytest.fixture(scope="session")
def stable(repository: Path, history: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kernel as a stable tree with the tags v7.3.34 and v7.3.35."""
    made = tmp_path_factory.mktemp("stable") / "linux"
    _branched(repository, made)
    history.grow(made, history.STABLE)
    gittree.git(made, "tag", "v7.3.35")
    gittree.git(made, "tag", "v7.3.34", f"HEAD~{len(history.STABLE) - 1}")
    return made


def _branched(repository: Path, made: Path) -> None:
    """Clone a repository's first commit."""
    change(repository, "clone", "-q", "--shared", str(repository), str(made))
    first = gittree.git(made, "rev-list", "--max-parents=0", "HEAD").strip()
    gittree.git(made, "reset", "-q", "--hard", first)


@pytest.fixture(scope="session")
def drill(cache: Cache, repository: Path, history: ModuleType) -> Path:
    """The same kernel with 40 commits, three of which are regressions that happened; kept."""
    steps = history.drill()
    key = digest([repository.parent.name, *map(repr, steps)])[:16]
    made = cache.root / ktree.KIND / f"{DRILL}-{key}" / "linux"
    if not (gittree.has_history(made) and gittree.knows(made, f"HEAD~{len(steps)}")):
        for stale in made.parent.parent.glob(f"{DRILL}-*"):
            shutil.rmtree(stale)
        made.parent.mkdir()
        _branched(repository, made)
        history.grow(made, steps)
    return made


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A plain Debian from the host's mirror."""
    root = tmp_path_factory.mktemp("base") / "root.tar"
    call("mmdebstrap", "--variant=minbase", "--include=ca-certificates", "trixie", root)
    made = call("buildah", "from", "scratch")
    call("buildah", "add", made, root, "/")
    call("buildah", "commit", made, BASE)
    call("buildah", "rm", made)
    yield BASE
    call("buildah", "rmi", "--force", BASE)
