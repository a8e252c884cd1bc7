"""A reviewer's own tree: a series tried where it was made, and regressions found in a history."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.command import vfio_lab
from tests.support.repositories import fingerprint

from vfio_lab.campaign import behaviour, bisect_report, bisection, mutants
from vfio_lab.kernels import base, export, gittree, kbuild, provenance, series, trial
from vfio_lab.util.cache import Cache

KERNEL = "7.3"
OPTION = "CONFIG_W1"  # which the lab's kernels do not have
CORE = "drivers/vfio/pci/vfio_pci_core.o"
SCENARIO = "scenarios/vf_token/test_match.py::test_pf_without_vf_users_opens_without_a_token"
FAULT = mutants.FOLDER / KERNEL / "token-wrong-errno.patch"
OF_A_PROJECT = "scenarios/test_token.py::test_a_vf_opens_only_with_the_token_of_its_pf"
OWN_SELFTESTS = "scenarios/clients/test_own_selftests.py"
COMPILED = re.compile(r"^  CC (?:\[M\])? +(\S+)$", re.MULTILINE)
NEW_SELFTEST = """\
--- a/tools/testing/selftests/vfio/Makefile
+++ b/tools/testing/selftests/vfio/Makefile
@@ -8,4 +8,5 @@
 CFLAGS = $(KHDR_INCLUDES)
+TEST_GEN_PROGS += vfio_news_test
 TEST_GEN_PROGS += vfio_dma_mapping_test
 TEST_GEN_PROGS += vfio_dma_mapping_mmio_test
 TEST_GEN_PROGS += vfio_iommufd_setup_test
--- /dev/null
+++ b/tools/testing/selftests/vfio/vfio_news_test.c
@@ -0,0 +1,11 @@
+// SPDX-License-Identifier: GPL-2.0-only
+#include <unistd.h>
+
+#include "kselftest_harness.h"
+
+TEST(container_is_there)
+{
+	ASSERT_EQ(access("/dev/vfio/vfio", F_OK), 0);
+}
+
+TEST_HARNESS_MAIN
"""


@pytest.fixture(scope="module")
def culprit(repository: Path, history: ModuleType) -> str:
    """The commit that breaks the token check."""
    words = ("log", "--format=%H", "-1", f"--grep={history.CULPRIT}")
    return gittree.git(repository, *words).strip()


def test_a_range_is_tried_on_its_own_start(cache: Cache, repository: Path, culprit: str) -> None:
    before, words = fingerprint(repository), f"{culprit}~..{culprit}"
    done = vfio_lab("try", "-C", repository / "drivers", words, SCENARIO)
    assert done.returncode == 1, done.stderr
    start = gittree.commit_hash(repository, f"{culprit}~")[:12]
    assert done.stdout.splitlines()[0] == f"base: linux@{start}, the start of {words}"
    assert "  before  passed" in done.stdout
    assert fingerprint(repository) == before
    assert cache.root.exists()


def test_another_series_on_the_same_base_compiles_what_it_changes(
    cache: Cache, repository: Path, culprit: str, tmp_path: Path
) -> None:
    ground = base.choose_base(f"{culprit}~", series.Series(()), repository)
    patch = tmp_path / "errno.patch"
    patch.write_text(FAULT.read_text().replace("EPERM", "ENODEV"))
    tried = trial.ensure_pair(ground, series.read_series([str(patch)], tmp_path).patches, cache)
    log = (tried.after.bzimage.parent / kbuild.LOG).read_text()
    assert [name for name in COMPILED.findall(log) if not name.endswith(".mod.o")] == [CORE]


def test_a_change_that_another_patch_made_before_is_told_by_its_own_name(
    cache: Cache, tmp_path: Path
) -> None:
    ground, other = base.PackagedBase(KERNEL, "the fault is for it"), tmp_path / "other.patch"
    other.write_text(FAULT.read_text())
    read = [series.read_series([str(one)], tmp_path).patches for one in (FAULT, other)]
    tried = [trial.ensure_pair(ground, patches, cache).after for patches in read]
    told = [provenance.kernel_facts(kernel)["patches"][0]["subject"] for kernel in tried]
    assert told == [FAULT.name, other.name]


def test_a_selftest_that_a_series_adds_is_built_and_run(cache: Cache, tmp_path: Path) -> None:
    patch = tmp_path / "news.patch"
    patch.write_text(NEW_SELFTEST)
    done = vfio_lab("try", patch, "--on", KERNEL, OWN_SELFTESTS, "-k", "news or iommufd", "--json")
    assert done.returncode == 0, done.stderr
    found = {one["scenario"].partition("[")[2]: one for one in json.loads(done.stdout)}
    assert found["vfio/vfio_news_test]"]["before"] == "not run"
    assert found["vfio/vfio_news_test]"]["after"] == "passed"
    assert cache.root.exists()


@pytest.fixture(scope="module")
def ends(repository: Path, culprit: str) -> tuple[str, ...]:
    """The options that name the last good commit and the one after the first bad one."""
    words = ("rev-list", "--reverse", "--ancestry-path", f"{culprit}..HEAD")
    return "--good", f"{culprit}~", "--bad", gittree.git(repository, *words).split()[0]


def test_a_bisection_runs_the_scenarios_of_the_project_that_it_starts_in(
    cache: Cache, repository: Path, ends: tuple[str, ...], tmp_path: Path
) -> None:
    assert vfio_lab("init", "my-lab", cwd=tmp_path).returncode == 0
    project, before = tmp_path / "my-lab", fingerprint(repository)
    done = vfio_lab("bisect", *ends, repository, f"{OF_A_PROJECT}[wrong token]", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "first bad commit: " in done.stdout
    assert "vfio/pci: Simplify the token check" in done.stdout
    (report,) = (project / ".artifacts").glob("bisect-*/bisect.txt")
    assert "#regzbot introduced: " in report.read_text()
    assert fingerprint(repository) == before
    assert cache.root.exists()


def test_a_difference_of_behaviour_is_bisected(
    cache: Cache, repository: Path, culprit: str, ends: tuple[str, ...]
) -> None:
    tried = vfio_lab("try", "-C", repository, f"{culprit}~..{culprit}", SCENARIO)
    where = Path(tried.stdout.splitlines()[-1].rpartition(" ")[2])
    (row, *_others) = behaviour.read_comparisons(where / behaviour.BEHAVIOUR)[0].rows
    done = vfio_lab("bisect", *ends, repository, "--change", f"{where}#{row.deviation.id}")
    assert done.returncode == 0, done.stderr
    assert f"first bad commit: {culprit[:8]}" in done.stdout
    assert cache.root.exists()


@pytest.mark.parametrize("number", range(3))
def test_a_regression_that_happened_is_found_among_40_commits(
    cache: Cache, drill: Path, history: ModuleType, tmp_path: Path, number: int
) -> None:
    step, scenario = list(history.REGRESSIONS.items())[number]
    first = gittree.git(drill, "rev-list", "--max-parents=0", "HEAD").strip()
    before, question = fingerprint(drill), bisection.Question(f"scenarios/{scenario}")
    found = bisection.find_culprit((first, "HEAD"), drill, question, tmp_path, cache)
    (culprit,) = found.commits
    assert gittree.git(drill, "show", "-s", "--format=%s", culprit).strip() == step.subject
    text = bisect_report.bisect_text(found, drill, question)
    assert f'Fixes: {culprit[:12]} ("{step.subject}")\n' in text
    assert "revert on " in text
    assert bisect_report.revert_line(found, drill).endswith(": good")
    assert fingerprint(drill) == before


def test_a_stable_tree_is_bisected_between_tags_with_a_fragment(
    cache: Cache, stable: Path, history: ModuleType, tmp_path: Path
) -> None:
    scenario = history.REGRESSIONS[history.FIRST_REGRESSION]
    before, fragment = fingerprint(stable), tmp_path / "mine.config"
    fragment.write_text(f"{OPTION}=m\n")
    question = bisection.Question(f"scenarios/{scenario}", fragment)
    found = bisection.find_culprit(("v7.3.34", "v7.3.35"), stable, question, tmp_path, cache)
    (culprit,) = found.commits
    text = bisect_report.bisect_text(found, stable, question)
    assert "A bisection between v7.3.34 (good) and v7.3.35 (bad)" in text
    assert f'Fixes: {history.UPSTREAM[:12]} ("{history.FIRST_REGRESSION.subject}")\n' in text
    assert f"Backported as: {culprit[:12]}\n" in text
    assert bisect_report.revert_line(found, stable) == "revert on v7.3.35: good"
    last = max(cache.root.glob(f"{export.KIND}/*/config"), key=lambda path: path.stat().st_mtime)
    assert f"{OPTION}=m\n" in last.read_text()
    assert fingerprint(stable) == before


def test_a_series_is_tried_on_a_tree_with_a_fragment(
    cache: Cache, repository: Path, culprit: str, tmp_path: Path
) -> None:
    fragment = tmp_path / "mine.config"
    fragment.write_text(f"{OPTION}=m\n")
    words = ("-C", repository, f"{culprit}~..{culprit}", SCENARIO, "--config", fragment)
    done = vfio_lab("try", *words)
    assert done.returncode == 1, done.stderr
    assert "  before  passed" in done.stdout
    last = max(cache.root.glob(f"{export.KIND}/*/config"), key=lambda path: path.stat().st_mtime)
    assert f"{OPTION}=m\n" in last.read_text()
