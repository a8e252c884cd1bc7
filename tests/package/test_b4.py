"""`vfio-lab check`, as the b4 of the package registry runs it when a series is under review."""

import json
from pathlib import Path

import pytest
from support.b4 import Repository, b4

from vfio_lab.campaign import mutants
from vfio_lab.kernels import ktree
from vfio_lab.util.cache import Cache

__all__ = ["b4"]
FILE = "drivers/vfio/pci/vfio_pci_core.c"
SCENARIO = "test_pf_without_vf_users_opens_without_a_token"
FAULT = mutants.FOLDER / "7.3" / "token-wrong-errno.patch"


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit and nothing of the kernel in it."""
    folder = tmp_path / "linux"
    folder.mkdir()
    return Repository(folder, {FILE: "static int vfio;\n"})


@pytest.fixture
def kernel_repository(repository):
    """The same with the file of the packaged kernel that the series changes."""
    cache = Cache.default().open()
    if not list((cache.root / ktree.KIND).glob(f"*/{ktree.READY}")):
        pytest.skip("needs the built source tree of kernel 7.3, which `vfio-lab try` makes")
    source = ktree.ensure_tree("7.3", cache).bench.tree / FILE
    repository.commit("vfio: As packaged", {FILE: source.read_text()})
    return repository


@pytest.mark.parametrize("cover", [True, False], ids=["cover letter", "first patch"])
def test_b4_shows_why_a_series_cannot_be_judged(b4, repository, cover):
    repository.git("checkout", "-q", "-b", "topic")
    repository.commit("vfio: Step 1", {FILE: "static int vfio = 1;\n"})
    repository.commit("vfio: Step 2", {FILE: "static int vfio = 2;\n"})
    (shown,) = repository.review(b4, repository.mails(cover=cover), "--on", "5.4")
    assert (shown["tool"], shown["status"]) == ("vfio-lab", "warn")
    assert shown["summary"] == "cannot judge: 5.4 has no sources to apply patches to"
    assert "expected: a packaged kernel" in shown["details"]


def test_b4_shows_the_verdict_on_a_series(b4, kernel_repository):
    kernel_repository.git("checkout", "-q", "-b", "topic")
    kernel_repository.git("apply", str(FAULT))
    kernel_repository.git("commit", "-q", "-a", "-m", "vfio/pci: Simplify the token check")
    mails = kernel_repository.mails(cover=True)
    (shown,) = kernel_repository.review(b4, mails, "--on", "7.3", "-k", SCENARIO)
    assert (shown["tool"], shown["status"]) == ("vfio-lab", "fail")
    assert shown["summary"] == "1 scenarios, 1 differ, on 7.3"
    (finding,) = json.loads(shown["details"])
    assert finding["status"] == "fail"
    assert f"::{SCENARIO}" in finding["description"]
    assert "after failed: expected EACCES" in finding["description"]
    assert (Path(shown["url"].removeprefix("file://")) / "after" / "results.json").exists()
