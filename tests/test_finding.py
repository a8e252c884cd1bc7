"""The draft of a mail on a finding: what it says, and that it fits."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from vfio_lab.campaign.results import VERDICTS, Outcome, read_results
from vfio_lab.cli import evidence as cli_evidence
from vfio_lab.cli import main
from vfio_lab.report.finding import MOST_CALLS, WIDTH, finding_text, read_finding, read_history
from vfio_lab.report.repro.program import c_program
from vfio_lab.report.repro.recording import read_recording
from vfio_lab.spec.claims import load_claims
from vfio_lab.util import resources

REPORTS = resources.root() / "docs" / "reports"
RECORDED = Path(__file__).parent / "data" / "repro"
FOLDERS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())
TOKEN = next(name for name in FOLDERS if "wrong-token" in name)
REASON = "AssertionError: expected EACCES, refused with EPERM\nand more"
FAULT = "F98"  # the first claim that describes a fault, whatever evidence it is told of


@pytest.fixture
def evidence(tmp_path):
    """Return what makes evidence of a scenario that ended so."""

    def make(**changed):
        shutil.copytree(RECORDED, tmp_path / "run")
        path = tmp_path / "run" / "results.json"
        found = json.loads(path.read_text())
        for record in found["scenarios"]:
            record.update(changed)
        path.write_text(json.dumps(found))
        return tmp_path / "run" / TOKEN

    return make


def draft(place):
    return finding_text(read_finding(place, []))


def paragraph(text, title):
    lines = text.splitlines()
    start = lines.index(title) + 1
    end = lines.index("", start) if "" in lines[start:] else len(lines)
    return [line.strip() for line in lines[start:end]]


def test_a_failure_is_told_from_claim_to_reproducer(evidence):
    text = draft(evidence(outcome="failed", reason=REASON))
    assert text.startswith("Subject: [BUG] vfio/pci: A VF whose PF is bound to vfio-pci does")
    assert "On Linux 7.3.4-lab this does not hold:" in text.splitlines()
    assert paragraph(text, "Seen:") == ["expected EACCES, refused with EPERM"]
    assert " ".join(paragraph(text, "Expected:")).startswith("A VF whose PF is bound to vfio-pci")
    calls = paragraph(text, "What was done (who: call = result):")
    assert "pf_user: open(/dev/vfio/10) = 4" in calls
    assert not [call for call in calls if "readlink(" in call]
    assert paragraph(text, "To reproduce it:") == [
        "gcc -Wall -o repro repro.c",
        "./repro --pf 0000:01:00.0",
        "repro.c is attached. It needs root and vfio-pci, and exits with",
        "1 where the kernel does what is described here.",
    ]


@pytest.mark.parametrize("name", FOLDERS)
def test_it_fits_a_mail(evidence, name):
    place = evidence(outcome="failed", reason=f"it is not so {'very ' * 40}").with_name(name)
    words = {
        word for line in draft(place).splitlines() if len(line) > WIDTH for word in line.split()
    }
    assert {word for word in words if len(word) <= WIDTH - 6} == set()


def test_of_many_calls_the_first_and_the_last_are_told(evidence):
    place = evidence(outcome="failed")
    line = "02:02:47.266 pf_user      close(0x{:x}) = 0\n"
    (place / "transcript.log").write_text("".join(line.format(n) for n in range(100)))
    calls = paragraph(draft(place), "What was done (who: call = result):")
    assert len(calls) == MOST_CALLS + 1
    assert (calls[0], calls[-1]) == ("pf_user: close(0x0) = 0", "pf_user: close(0x63) = 0")
    assert f"... {100 - MOST_CALLS} more" in calls


def test_a_call_with_one_allocation_after_another_failing_stands_once(evidence):
    place = evidence(outcome="failed")
    line = "02:02:47.266 root         write_file(/a, 1) = ENOMEM (the lab failed allocation {} of"
    text = "".join(f"{line.format(n)} this call)\n" for n in range(1, 25))
    (place / "transcript.log").write_text(f"{text}02:02:48.000 root         close(0x4) = 0\n")
    assert paragraph(draft(place), "What was done (who: call = result):") == [
        "root: write_file(/a, 1) = ENOMEM, allocations 1 to 24 failing",
        "root: close(0x4) = 0",
    ]


def test_a_fault_that_a_claim_describes_is_a_finding_though_its_scenario_passed(evidence):
    text = draft(evidence(claims=[FAULT]))
    assert text.startswith("Subject: [BUG] vfio/type1: A second dirty bitmap also has bits of...")
    expected, seen = paragraph(text, "Expected:"), paragraph(text, "Seen:")
    assert expected == ["The bits of pages that are not mapped are 0 in each bitmap."]
    assert " ".join(seen).startswith("A second dirty bitmap also has bits of pages")
    assert "exits with\n  0 where" in text


def test_where_nothing_is_wrong_there_is_nothing_to_send(evidence):
    done = CliRunner().invoke(main, ["finding", str(evidence())])
    assert (done.exit_code, "nothing is wrong" in done.stderr) == (2, True)


def test_the_kernels_where_it_was_run_are_told_and_the_commit_that_was_found(evidence, tmp_path):
    place = evidence(outcome="failed")
    nodeid = read_finding(place, []).record.nodeid
    kernels = {"6.1": {nodeid: "skipped"}, "6.12": {nodeid: "passed"}, "7.3": {nodeid: "failed"}}
    (tmp_path / VERDICTS).write_text(json.dumps({"schema": 1, "kernels": kernels}))
    (tmp_path / "bisect-1").mkdir()
    commit = "86624ba3b522b6512def25534341da93356c8da4"
    log = f"git bisect bad\n# first bad commit: [{commit}] vfio/pci: Do it\n"
    (tmp_path / "bisect-1" / "bisect.log").write_text(log)
    text = finding_text(read_finding(place, [tmp_path]))
    assert paragraph(text, "Since when:") == [
        "6.1          cannot tell",
        "6.12         good",
        "7.3          bad",
        'bisected to 86624ba3b522 ("vfio/pci: Do it")',
    ]
    assert read_history("scenarios/none.py::test_none", [tmp_path]).outcomes == {}
    alone = paragraph(finding_text(read_finding(place, [])), "Since when:")
    assert alone == ["No other kernel was tested."]


def test_what_matrix_left_names_kernels_of_earlier_runs_too(evidence, tmp_path, monkeypatch):
    place = evidence(outcome="failed")
    nodeid = read_finding(place, []).record.nodeid
    earlier = read_results(place.parent)
    passed = [replace(one, outcome=Outcome.PASSED, reason="") for one in earlier.scenarios]
    older = {**earlier.kernel, "name": "6.12", "digest": "another"}
    replace(earlier, kernel=older, scenarios=tuple(passed)).write(tmp_path / "older")
    left = tmp_path / "matrix"
    monkeypatch.setattr(cli_evidence, "new_evidence", lambda _kind: left)
    done = CliRunner().invoke(main, ["matrix", str(tmp_path / "older"), str(place.parent)])
    assert done.exit_code == 1
    assert read_history(nodeid, [left]).outcomes == {"6.12": Outcome.PASSED, "7.3": Outcome.FAILED}


def test_the_command_writes_report_and_reproducer(evidence, tmp_path):
    place, target = evidence(outcome="failed"), tmp_path / "report"
    done = CliRunner().invoke(main, ["finding", str(place), "-o", str(target)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert (target / "repro.c").read_text() == c_program(read_recording(place))
    shown = CliRunner().invoke(main, ["finding", str(place)])
    assert shown.stdout == (target / "report.txt").read_text()


def test_what_cannot_be_written_as_a_program_is_said(evidence, tmp_path):
    place = evidence(outcome="failed")
    (place / "qmp.jsonl").write_text(json.dumps({"at": 1.0, "execute": "device_del"}) + "\n")
    done = CliRunner().invoke(main, ["finding", str(place), "-o", str(tmp_path / "report")])
    assert done.exit_code == 0
    text = (tmp_path / "report" / "report.txt").read_text()
    assert "No program can be attached: it tells QEMU's monitor to device_del." in text
    assert not (tmp_path / "report" / "repro.c").exists()


def test_each_claim_that_describes_a_fault_has_a_report():
    faults = {claim.id for claim in load_claims().values() if claim.should}
    written = {path.parent.name for path in REPORTS.glob("*/report.txt")}
    assert faults <= written
    index = (REPORTS / "index.md").read_text()
    assert [name for name in written if f"({name}/report.txt)" not in index] == []
    assert [
        name
        for name in written
        if "Subject: [BUG] " not in (REPORTS / name / "report.txt").read_text()
    ] == []
