"""An exploration spread over hosts: sshds that the test starts, each with a cache of its own."""

import re
import subprocess
from pathlib import Path

import pytest
from tests.support.command import COMMAND
from tests.support.sshd import SshHost, ssh_hosts

from vfio_lab.campaign import mutants
from vfio_lab.kernels import series, trial
from vfio_lab.kernels.base import PackagedBase
from vfio_lab.util import resources
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline, wait_until

RUN_TIMEOUT_S = 900.0
FAULT = mutants.FOLDER / "7.3" / "token-wrong-errno.patch"
WALKS = re.compile(r"(\d+) steps in (\d+) walks")


def start(env: dict[str, str], *words: str) -> subprocess.Popen[str]:
    """Start the command in an environment."""
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=resources.root(),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(env: dict[str, str], *words: str) -> tuple[int, str, str]:
    """Run the command in an environment; return its exit code and what it printed."""
    with start(env, *words) as process:
        printed, said = process.communicate(timeout=RUN_TIMEOUT_S)
    return process.returncode, printed, said


def walks(said: str) -> int:
    """Return how many walks an exploration took."""
    found = WALKS.search(said)
    assert found, said
    return int(found[2])


def await_walk(host: SshHost) -> None:
    """Wait until a guest walks on a host."""
    runs, began = host.workers / "runs", Deadline.after(RUN_TIMEOUT_S)
    wait_until(f"a walk on {host.name}", lambda: list(runs.glob("*/walk-*/console.log")), began)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory):
    """Two hosts, whose caches are filled by the first exploration."""
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), "one", "two") as (env, hosts):
        yield env, hosts


def test_walks_are_the_same_wherever_they_are_taken(hosts):
    env, machines = hosts
    words = ("explore", "--steps", "40", "--seconds", "300", "--seed", "3")
    code, _, said = run(env, *words, "--hosts", "one*2,two*2")
    assert code == 0, said
    here, _, said_here = run(env, *words)
    assert here == 0, said_here
    assert WALKS.search(said)[0] == WALKS.search(said_here)[0]
    for host in machines.values():
        assert list(host.cache.glob("template/igb-*/state"))
        assert not list((host.workers / "runs").iterdir())


def test_a_disagreement_comes_back_as_a_scenario(hosts):
    env, machines = hosts
    patches = series.read_series([str(FAULT)], resources.root()).patches
    base = PackagedBase("7.3", "the fault is for it")
    broken = trial.ensure_pair(base, patches, Cache.default().open()).after.bzimage.parent
    words = ("explore", "--kernel", str(broken), "--seconds", "200", "--hosts", "one*2,two*1")
    code, printed, said = run(env, *words)
    assert code == 1, said
    assert "def test_" in printed
    folder = Path(said.rpartition("evidence: ")[2].strip())
    assert (folder / "scenario.py").read_text() == printed.removesuffix("\n")
    assert (folder / "shortest" / "transcript.log").exists()
    assert list(machines["one"].workers.glob("kernel-*/bzImage"))


def test_the_walks_of_a_host_that_dies_begin_again_on_the_other(hosts):
    env, machines = hosts
    with start(env, "explore", "--seconds", "60", "--hosts", "one*1,two*1") as process:
        await_walk(machines["two"])
        machines["two"].die()
        _, said = process.communicate(timeout=RUN_TIMEOUT_S)
    assert process.returncode == 0, said
    assert "host two is gone: " in said
    assert walks(said) > 0


def test_walks_go_on_here_when_the_only_host_dies(hosts):
    env, machines = hosts
    with start(env, "explore", "--seconds", "60", "--hosts", "one*1") as process:
        await_walk(machines["one"])
        machines["one"].die()
        _, said = process.communicate(timeout=RUN_TIMEOUT_S)
    assert process.returncode == 0, said
    assert "host one is gone: " in said
    assert walks(said) > 0
