"""A full disk: every writer leaves the old content or the new, and says what it could not write."""

from types import SimpleNamespace

import pytest
from support.small_disk import small_disk
from test_evidence import FakeGuest

from vfio_lab.campaign import bisection, gcov, results, runs
from vfio_lab.campaign.bisection import CommitVerdict
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.campaign.runs import Choice
from vfio_lab.cli import main
from vfio_lab.errors import HostError
from vfio_lab.evidence.collect import collect_evidence
from vfio_lab.interactive import session
from vfio_lab.report import site
from vfio_lab.util.cache import Cache
from vfio_lab.util.files import append_whole, full, write_whole
from vfio_lab.util.process import pipeline

__all__ = ["small_disk"]
SCENARIO = "scenarios/vf_token/test_match.py::test_vf_opens_with_the_token_its_pf_user_set"
LONG = "x" * 4000
RECORDS = tuple(
    Record(f"{SCENARIO}[{number}]", ("A02",), "igb", Outcome.PASSED, LONG, 1.0, "")
    for number in range(20)
)
RESULTS = Results(
    {"name": "7.3", "release": "7.3.4-lab", "digest": "d"},
    {"qemu": "10.0.2", "accelerator": "tcg"},
    0.0,
    1.0,
    0,
    RECORDS,
)


class CountingUser:
    def run(self, *_words, timeout_s):
        del timeout_s
        return SimpleNamespace(exit=0, stdout="eHh4" * 20000, stderr="")


def counting_guest(folder):
    kernel = SimpleNamespace(option=lambda _name: "y")
    machine = SimpleNamespace(kernel=kernel)
    return SimpleNamespace(folder=folder, machine=machine, user=lambda _name: CountingUser())


def write_verdicts(folder):
    verdict = CommitVerdict("a" * 40, 0, LONG * 20, str(folder))
    bisection.write_verdict(verdict, folder)


WRITERS = {
    "a file": lambda disk: write_whole(disk / "file", LONG * 20),
    "more of a file": lambda disk: append_whole(disk / "file", LONG * 20),
    "results.json": RESULTS.write,
    "the last verdicts": lambda disk: results.remember(disk, RESULTS),
    "a bisection's verdict": write_verdicts,
    "counts of gcov": lambda disk: gcov.collect_coverage(counting_guest(disk)),
    "a report": lambda disk: site.write([disk / "run"], disk / "report"),
    "a cache entry": lambda disk: Cache(disk / "cache").obtain(
        "kind", "key", lambda scratch: (scratch / "data").write_bytes(bytes(100_000))
    ),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_on_a_full_disk_is_as_it_was_or_whole(small_disk, write):
    RESULTS.write(small_disk.path / "run")
    (small_disk.path / "file").write_text("before")
    before = small_disk.content()
    small_disk.fill()
    with pytest.raises((OSError, HostError)) as refused:
        write(small_disk.path)
    assert isinstance(refused.value, HostError) or full(refused.value)
    left = {name: data for name, data in small_disk.content().items() if ".lock" not in name}
    assert left == before
    small_disk.empty()
    write(small_disk.path)
    assert small_disk.content() != before


def test_evidence_that_finds_no_room_says_why_and_the_complaints_are_there(small_disk):
    guest = FakeGuest(small_disk.path / "guest", console="[    1.0] Kernel panic - not syncing: no")
    small_disk.fill()
    found = collect_evidence(guest)
    assert found.missing == "No space left on device"
    assert [one.kind for one in found.complaints] == ["panic"]
    assert set(small_disk.content()) == {"guest/console.log"}
    small_disk.empty()
    assert collect_evidence(guest).missing == ""


def test_a_tool_runs_to_its_end_though_its_log_has_no_room(small_disk):
    log = small_disk.path / "logs" / "tool.log"
    log.parent.mkdir()
    small_disk.fill()
    lines = []
    assert pipeline("count", ["seq", "100000"], log=log, on_line=lines.append) == 0
    assert len(lines) == 100000


def test_the_history_of_a_shell_is_as_it_was(small_disk):
    cache = Cache(small_disk.path)
    session._append_history(cache, "lspci\n")
    small_disk.fill()
    session._append_history(cache, LONG * 4)
    assert session._read_history(cache) == "lspci\n"
    small_disk.empty()
    session._append_history(cache, "lsmod\n")
    assert session._read_history(cache) == "lspci\nlsmod\n"


def test_verdicts_that_cannot_be_cached_are_verdicts(small_disk, monkeypatch):
    monkeypatch.setattr(runs, "run_scenarios", lambda *_: RESULTS)
    monkeypatch.setattr(runs, "sources", lambda: "as they are")
    kernel = SimpleNamespace(digest="d", name="7.3")
    cache = Cache(small_disk.path).open()
    (small_disk.path / "locks").mkdir()
    small_disk.fill()
    assert runs.cached(kernel, "7.3", Choice(), small_disk.path, cache) == RESULTS
    assert not list(small_disk.path.glob("verdicts/*/results.json"))


def test_a_command_that_finds_no_room_says_so_in_one_block(small_disk, capsys):
    RESULTS.write(small_disk.path / "run")
    small_disk.fill()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(small_disk.path / "run"), "--to", str(small_disk.path / "site")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("vfio-lab: the disk filled up\n  seen: No space")
