"""What a scenario leaves behind, and which part of it a failure shows."""

import time

import pytest

from vfio_lab.client.transcript import Entry
from vfio_lab.errors import GuestLost
from vfio_lab.evidence.calls import transcript
from vfio_lab.evidence.collect import (
    LONGEST_NAME,
    Collected,
    collect_evidence,
    folder_name,
    part_that_matters,
)
from vfio_lab.machine.state import Snapshot
from vfio_lab.qemu.console import Complaint

RECORD = "4,340,5140900,-;vfio-pci 0000:01:10.0: VF token incorrect\n SUBSYSTEM=pci\n"
WARNING = "WARNING: CPU: 0 PID: 97 at drivers/vfio/vfio_main.c:1021 vfio_df_close+0x6b/0x80"


class FakeGuest:
    """Stands where vfio_lab.machine.guest.Guest does, with what a guest leaves in its folder."""

    def __init__(self, folder, records=(RECORD,), console=""):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.console = folder / "console.log"
        self.console.write_text(console)
        self.transcript = [Entry(0.5, 0.75, "vf_user", "open", "/dev/vfio/7", "EACCES")]
        self.records = records
        self.awake = None

    def snapshot(self):
        return Snapshot((), ())

    def survey(self, seen):
        del seen
        return {}

    def paste(self):
        return "qemu-system-x86_64 -machine 'q35'"

    def kernel_log(self):
        if self.records is None:
            raise GuestLost("the guest went away")
        return list(self.records)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "evidence"


def test_a_scenarios_id_is_a_folder_name():
    assert folder_name("vf_token/test_match.py::test_vf_opens") == (
        "vf_token-test_match.py-test_vf_opens"
    )
    assert folder_name("vf_token/test_match.py::test_vf_opens[group]") == (
        "vf_token-test_match.py-test_vf_opens-group"
    )


@pytest.mark.parametrize(
    "part", ["", " ", "  ", "-", "=", ":", "_", "\\t", "\\n", "é", "]", "[", "/"]
)
def test_no_two_scenarios_share_a_folder(part):
    others = {folder_name(f"a.py::test[x{one}y]") for one in ("", " ", "  ", "=", "\\t", "é", "!")}
    others.discard(folder_name(f"a.py::test[x{part}y]"))
    assert len(others) >= 6


def test_what_differs_at_the_far_end_of_a_long_id_differs_in_its_folder():
    names = {folder_name(f"{start}.py::{'t' * 300}[{end}]") for start in "ab" for end in "ab"}
    assert len(names) == 4
    assert all(len(name) <= LONGEST_NAME + 10 for name in names)


@pytest.mark.parametrize("scenario", ["a/b.py::test[../../etc]", "--", "[ ]", "::test[ü\0]"])
def test_a_folder_name_stays_where_it_is_put(scenario):
    name = folder_name(scenario)
    assert "/" not in name
    assert "\0" not in name
    assert name not in ("", ".", "..")
    assert not name.startswith("-")


def test_all_evidence_is_in_its_folder_and_private(folder):
    guest = FakeGuest(folder, console="[    1.0] booted\n")
    assert collect_evidence(guest) == Collected([])
    assert {path.name for path in folder.iterdir()} == {
        "command.sh",
        "transcript.log",
        "calls.jsonl",
        "observed.json",
        "kernel.log",
        "console.log",
        "snapshot.json",
        "timeline.json",
    }
    assert (folder / "command.sh").read_text() == (
        "#!/bin/sh\nexec qemu-system-x86_64 -machine 'q35'\n"
    )
    assert (folder / "kernel.log").read_text() == (
        "[    5.140900] warn: vfio-pci 0000:01:10.0: VF token incorrect\n"
    )
    assert "vf_user      open(/dev/vfio/7) = EACCES" in (folder / "transcript.log").read_text()
    assert [path for path in folder.iterdir() if path.stat().st_mode & 0o077] == []


def test_a_lost_guest_leaves_its_console(folder):
    (found,) = collect_evidence(
        FakeGuest(folder, None, "[    1.0] Kernel panic - not syncing: no\n")
    ).complaints
    assert found.kind == "panic"
    assert (folder / "kernel.log").read_text() == ""


def test_complaints_are_found_on_the_console_and_else_in_the_log(folder):
    (found,) = collect_evidence(FakeGuest(folder, console=f"[    1.0] {WARNING}\n")).complaints
    assert found.headline == WARNING
    (found,) = collect_evidence(FakeGuest(folder, records=[f"4,1,1000,-;{WARNING}\n"])).complaints
    assert found.kind == "WARN"


def test_a_transcript_has_a_line_for_each_call():
    noon = time.mktime(time.strptime("2026-01-02 12:00:00", "%Y-%m-%d %H:%M:%S")) - time.timezone
    entries = [
        Entry(noon + 0.25, noon + 0.5, "pf_user", "VFIO_SET_IOMMU", "3", "0"),
        Entry(noon + 1, noon + 1, "a_user_with_a_long_name", "close", "0x4", "EBADF"),
    ]
    assert transcript(entries) == (
        "12:00:00.250000 pf_user      VFIO_SET_IOMMU(3) = 0\n"
        "12:00:01.000000 a_user_with_a_long_name close(0x4) = EBADF\n"
    )
    assert transcript([]) == ""


def test_a_failure_shows_complaints_then_the_last_calls_then_the_log(folder):
    collect_evidence(FakeGuest(folder))
    text = part_that_matters(folder, [Complaint("WARN", WARNING, f"{WARNING}\nCall Trace:")])
    places = [
        text.index(part)
        for part in ("kernel complaint (WARN)", "Call Trace:", "transcript.log", "kernel.log")
    ]
    assert places == sorted(places)
    assert text.splitlines()[-1] == f"evidence: {folder}"


def test_a_failure_shows_who_sleeps_in_the_kernel(folder):
    collect_evidence(FakeGuest(folder))
    (folder / "stacks.txt").write_text("remover (pid 7): D\n    remove_store+0x50/0x60\n")
    text = part_that_matters(folder)
    assert text.index("remove_store+0x50") < text.index("transcript.log")


def test_a_failure_before_the_first_call_shows_the_console(folder):
    guest = FakeGuest(folder, None, "[    1.0] the last words\n")
    guest.transcript = []
    collect_evidence(guest)
    assert "the last words" in part_that_matters(folder)
    assert "<empty>" in part_that_matters(folder / "none")


def test_a_long_log_is_shown_by_its_end(folder):
    collect_evidence(FakeGuest(folder, [f"6,1,{number},-;line {number};" for number in range(200)]))
    text = part_that_matters(folder)
    assert "line 199" in text
    assert "line 100;" not in text
