"""Coverage: counts of a real compiler, added up and summed."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from vfio_lab.campaign import gcov
from vfio_lab.campaign.reach import load_reach
from vfio_lab.errors import BuildError, HostError

PROGRAM = "int main(int n, char **v) { if (n > 1) return 0; return 0; }\n"


def archive(run: Path, made: Path, target: Path) -> Path:
    """Run a counting program and pack its counts as a guest would."""
    subprocess.run([made / "a", *(["more"] if run.name == "second" else [])], check=True)
    with tarfile.open(target, "w:gz") as tar:
        for path in made.glob("*.gcda"):
            tar.add(path, arcname=str(path).lstrip("/"))
            path.unlink()
    return target


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A build folder with a program that counts."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.c").write_text(PROGRAM)
    command = [shutil.which("gcc"), "--coverage", "-c", "-o", "a.o", "a.c"]
    subprocess.run(command, cwd=folder, check=True)
    link = [shutil.which("gcc"), "--coverage", "-o", "a", "a.o"]
    subprocess.run(link, cwd=folder, check=True)
    return folder


def counts(folder: Path) -> str:
    command = [shutil.which("gcov"), "--stdout", "--branch-counts", "--branch-probabilities", "a.o"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def test_what_guests_counted_is_added_up(made: Path, tmp_path: Path) -> None:
    archives = [
        archive(tmp_path / name, made, tmp_path / f"{name}.tar.gz") for name in ("first", "second")
    ]
    log = tmp_path / "log"
    assert gcov.merge_counts(archives, made, tmp_path / "scratch", log) == 2
    found = counts(made)
    assert "        2:    1:int main" in found
    assert found.count("taken 1") == 2


def test_no_counts_are_no_coverage(made: Path, tmp_path: Path) -> None:
    assert gcov.merge_counts([], made, tmp_path / "scratch", tmp_path / "log") == 0
    assert list(made.glob("*.gcda")) == []


def test_without_the_tool_the_host_is_to_blame(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(gcov.host, "which", lambda _name: None)
    with pytest.raises(HostError, match="cannot add up coverage"):
        gcov.merge_counts([], made, tmp_path / "scratch", tmp_path / "log")


def line(count: int, function: str = "f", branches: tuple[int, ...] = ()) -> dict[str, object]:
    taken = [{"count": number} for number in branches]
    return {"count": count, "function_name": function, "branches": taken}


def test_files_and_the_bars_own_functions_are_summed() -> None:
    core = [
        line(1, "vfio_pci_core_match_token_uuid", (1, 0)),
        line(0, "vfio_pci_core_sriov_configure"),
        line(0, "vfio_pci_core_mmap"),
    ]
    data = {
        "files": [
            {"file": gcov.CORE.as_posix(), "lines": core},
            {"file": "drivers/vfio/group.c", "lines": [line(3)]},
            {"file": "drivers/vfio/container.c", "lines": [line(0)]},
            {"file": "drivers/iommu/iommufd/main.c", "lines": [line(1)]},
            {"file": "drivers/iommu/iommufd/selftest.c", "lines": [line(0)]},
        ]
    }
    found = {each.name: each for each in gcov.coverage_summary(data)}
    assert (found["drivers/vfio/container.c"].hit, found["drivers/vfio/container.c"].lines) == (
        0,
        1,
    )
    whole = found[gcov.CORE.as_posix()]
    assert (whole.lines, whole.hit, whole.branches, whole.taken) == (3, 1, 2, 1)
    own = found["token, SR-IOV, hot reset, group.c and device_cdev.c"]
    assert (own.lines, own.hit) == (3, 2)
    assert str(whole).split()[:2] == ["33.3", "%"]
    areas = [(found[name].hit, found[name].lines) for name, _ in gcov.AREAS]
    assert areas == [(1, 3), (1, 2), (1, 1)]


def test_a_few_scenarios_are_enough_and_unknown_ones_stay() -> None:
    known = load_reach().names
    chosen = gcov.enough_scenarios((*known, "a new one"))
    assert chosen[-1] == "a new one"
    assert 0 < len(chosen) < len(known) / 4
    assert gcov.enough_scenarios(chosen) == chosen


class Counting:
    """A guest that answers like one whose kernel counts, or does not."""

    name = "guest"

    def __init__(self, folder: Path, option: str | None, code: int) -> None:
        self.folder, self.option, self.exit = folder, option, code
        self.stdout, self.stderr = "aGVsbG8=", "no debugfs"
        self.machine = self.kernel = self

    def user(self, _name: str) -> "Counting":
        return self

    def run(self, *_words: str, timeout_s: float) -> "Counting":
        assert timeout_s
        return self


class Kernel:
    def __init__(self, value: str | None) -> None:
        self.value = value

    def option(self, name: str) -> str | None:
        assert name == "GCOV_KERNEL"
        return self.value


@pytest.mark.parametrize(("option", "code"), [("y", 0), (None, 0), ("y", 1)])
def test_only_kernels_that_count_are_asked(tmp_path: Path, option: str | None, code: int) -> None:
    guest = Counting(tmp_path, option, code)
    guest.kernel = Kernel(option)  # type: ignore[assignment]  # half a kernel is enough
    if code:
        with pytest.raises(BuildError, match="cannot fetch"):
            gcov.collect_coverage(guest)  # type: ignore[arg-type]  # and half a guest
        return
    gcov.collect_coverage(guest)  # type: ignore[arg-type]  # and half a guest
    found = [path.read_bytes() for path in tmp_path.iterdir()]
    assert found == ([b"hello"] if option else [])
