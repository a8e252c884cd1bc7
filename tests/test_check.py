"""The verdict on a series as b4 reads it, and where its patches come from."""

import json
import subprocess

import pytest
from click.testing import CliRunner

from vfio_lab.campaign.behaviour import Comparison
from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.campaign.series_trial import SeriesTrial
from vfio_lab.cli import main
from vfio_lab.cli.check import TRACKING, review_range, series_of
from vfio_lab.errors import UsageError
from vfio_lab.report.check import check_result
from vfio_lab.util.host import which

PATCH = """\
From: A Developer <dev@invalid>
Subject: =?utf-8?q?=5BPATCH_1/1=5D_vfio=3A_Open?=
Message-Id: <1@invalid>

Why.
---
 a.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/a.c b/a.c
--- a/a.c
+++ b/a.c
@@ -1 +1 @@
-old
+new
--
2.39.5
"""
COVER = "From: A Developer <dev@invalid>\nSubject: [PATCH v2 0/3] vfio: Open\n\nA series.\n"


def run(*pairs):
    records = tuple(
        Record(name, ("A02",), "igb", outcome, "it is not so" * (outcome is Outcome.FAILED), 0, "e")
        for name, outcome in pairs
    )
    return Results({"name": "7.3"}, {}, 0, 0, 0, records)


@pytest.mark.parametrize(
    ("before", "after", "status", "findings"),
    [
        (Outcome.PASSED, Outcome.PASSED, "pass", 0),
        (Outcome.PASSED, Outcome.FAILED, "fail", 1),
        (Outcome.FAILED, Outcome.PASSED, "pass", 1),
        (Outcome.FAILED, Outcome.FAILED, "warn", 1),
        (Outcome.SKIPPED, Outcome.SKIPPED, "warn", 0),
    ],
)
def test_the_verdict_is_what_try_exits_with(tmp_path, before, after, status, findings):
    results = run(("s.py::a", before)), run(("s.py::a", after))
    tried = SeriesTrial("7.3", *results, Comparison("7.3", "7.3+1", 0, ()), tmp_path)
    said = check_result(tried)
    assert said["status"] == status
    assert len(json.loads(said["details"] or "[]")) == findings
    assert said["url"] == tmp_path.as_uri()
    assert set(said) == {"tool", "status", "summary", "url", "details"}


def test_the_only_patch_of_a_series_is_the_series():
    (patch,) = series_of(PATCH.encode()).patches
    assert [path.name for path in patch.touched] == ["a.c"]


@pytest.mark.parametrize("mail", [COVER, PATCH.replace("1/1", "1/3"), COVER.replace("3]", "1]")])
def test_a_part_of_a_series_is_not_tried_alone(monkeypatch, mail):
    monkeypatch.delenv(TRACKING, raising=False)
    with pytest.raises(UsageError, match="not a whole series"):
        series_of(mail.encode())


def test_the_command_answers_with_a_verdict_whatever_it_gets(monkeypatch):
    monkeypatch.delenv(TRACKING, raising=False)
    done = CliRunner().invoke(main, ["check"], input=COVER)
    assert done.exit_code == 0
    (said,) = json.loads(done.stdout)
    assert (said["status"], said["summary"]) == (
        "warn",
        "cannot judge: the mail is not a whole series",
    )


def test_a_tracking_file_of_another_make_is_a_mistake(tmp_path):
    (tmp_path / "tracking").write_text('{"series": {}}')
    with pytest.raises(UsageError, match="does not say where"):
        review_range(tmp_path / "tracking")


def test_a_longer_series_is_on_the_review_branch(tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=A", "-c", "user.email=a@invalid")
        command = [which("git"), *who, *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    git("init", "-q", "-b", "b4/review/some-id")
    for number in range(3):
        (tmp_path / "a.c").write_text(f"{number}\n")
        git("add", "a.c")
        git("commit", "-q", "-m", f"vfio: Step {number}")
    git("commit", "-q", "--allow-empty", "-m", "what b4 keeps of the review")
    first = git("rev-parse", "HEAD~2").stdout.strip()
    tracking = {"series": {"first-patch-commit": first, "change-id": "some-id"}}
    (tmp_path / "tracking").write_text(json.dumps(tracking))
    monkeypatch.setenv(TRACKING, str(tmp_path / "tracking"))
    monkeypatch.chdir(tmp_path)
    names = [patch.name for patch in series_of(COVER.encode()).patches]
    assert names == ["vfio: Step 1", "vfio: Step 2"]
