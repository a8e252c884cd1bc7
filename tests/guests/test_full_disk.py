"""Does a run on a full disk say what it found all the same?"""

import os
import subprocess
import sys

from support.small_disk import mounted

from vfio_lab.campaign import results
from vfio_lab.util import resources

MATCH = "scenarios/vf_token/test_match.py"
RUN_TIMEOUT_S = 600


def test_a_run_on_a_full_disk_has_every_verdict(tmp_path):
    where = tmp_path / "disk"
    where.mkdir()
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    with mounted("size=600k", where) as disk:
        command = [sys.executable, "-m", "pytest", "-q", MATCH, "-n", "2"]
        done = subprocess.run(
            [*command, "--lab-artifacts", str(disk.path)],
            cwd=resources.root(),
            env=plain,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout
        assert "INTERNALERROR" not in done.stdout
        assert done.stdout.count("not all evidence of 25 scenarios was kept") == 1
        (path,) = disk.path.glob("*/results.json")
        outcomes = {one.outcome.value for one in results.read_results(path.parent).scenarios}
    assert outcomes == {"passed"}
