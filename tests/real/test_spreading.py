"""A run spread over hosts: two sshds that the test starts, each with a cache of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.command import COMMAND
from tests.support.sshd import ssh_hosts

from vfio_lab.campaign import mutants
from vfio_lab.campaign.results import Outcome, read_results
from vfio_lab.util import resources
from vfio_lab.util.deadline import Deadline, wait_until

FAULT = mutants.FOLDER / "7.3" / "token-wrong-errno.patch"
MATCH = "scenarios/vf_token/test_match.py"
RUN_TIMEOUT_S = 900.0
COUNT = 25


def start(env: dict[str, str], kept: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run of scenarios whose evidence goes to a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "--lab-artifacts", str(kept), *words]
    return subprocess.Popen(
        command,
        cwd=resources.root(),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory):
    """Two hosts, whose caches are filled by the first run."""
    with ssh_hosts(tmp_path_factory.mktemp("hosts"), "one", "two") as (env, hosts):
        yield env, hosts


def test_two_hosts_share_a_run_and_its_evidence_comes_back(hosts, tmp_path):
    env, machines = hosts
    with start(env, tmp_path, MATCH, "--lab-hosts", "one*1,two*1") as run:
        said, _ = run.communicate(timeout=RUN_TIMEOUT_S)
    assert run.returncode == 0, said
    (path,) = tmp_path.glob("*/results.json")
    found = read_results(path.parent)
    assert [one.outcome for one in found.scenarios] == [Outcome.PASSED] * COUNT
    assert all((path.parent / one.evidence / "calls.jsonl").exists() for one in found.scenarios)
    for host in machines.values():
        assert list(host.cache.glob("kernel/*/bzImage"))
        assert list(host.cache.glob("template/igb-*/state"))
        assert not list((host.workers / "runs").iterdir())


def test_a_patch_is_tried_on_another_host(hosts):
    env, machines = hosts
    words = ("try", FAULT, MATCH, "-k", "without_vf_users", "--hosts", "one*1")
    command = [*COMMAND, *map(str, words)]
    done = subprocess.run(
        command, check=False, env=env, cwd=resources.root(), capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "1 scenarios, 1 differ" in done.stdout
    assert list(machines["one"].workers.glob("kernel-*/bzImage"))


def test_a_host_that_dies_takes_no_other_verdict_along(hosts, tmp_path):
    env, machines = hosts
    with start(env, tmp_path, MATCH, "--lab-hosts", "one*1,two*1") as run:
        runs = machines["two"].workers / "runs"
        began = Deadline.after(RUN_TIMEOUT_S)
        wait_until("a guest on host two", lambda: list(runs.glob("*/*/console.log")), began)
        machines["two"].die()
        said, _ = run.communicate(timeout=RUN_TIMEOUT_S)
    assert "host two is gone" in said
    (path,) = tmp_path.glob("*/results.json")
    outcomes = [one.outcome for one in read_results(path.parent).scenarios]
    assert len(outcomes) == COUNT
    assert outcomes.count(Outcome.ERROR) == 1, said
    assert outcomes.count(Outcome.PASSED) == COUNT - 1, said


def test_the_rest_runs_here_when_the_only_host_dies(hosts, tmp_path):
    env, machines = hosts
    with start(env, tmp_path, MATCH, "--lab-hosts", "one*1") as run:
        runs = machines["one"].workers / "runs"
        began = Deadline.after(RUN_TIMEOUT_S)
        wait_until("a guest on host one", lambda: list(runs.glob("*/*/console.log")), began)
        machines["one"].die()
        said, _ = run.communicate(timeout=RUN_TIMEOUT_S)
    (path,) = tmp_path.glob("*/results.json")
    outcomes = [one.outcome for one in read_results(path.parent).scenarios]
    assert outcomes.count(Outcome.ERROR) == 1, said
    assert outcomes.count(Outcome.PASSED) == COUNT - 1, said


def test_a_host_that_cannot_be_reached_is_named(hosts, tmp_path):
    env, _hosts = hosts
    with start(env, tmp_path, MATCH, "--lab-hosts", "nowhere.invalid") as run:
        said, _ = run.communicate(timeout=RUN_TIMEOUT_S)
    assert run.returncode == 2
    assert "on host nowhere.invalid" in said
    assert "must work without a password" in said
    assert "Traceback" not in said
