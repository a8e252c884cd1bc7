"""The report as files: what a run becomes, and what nothing in it can do to the report."""

import base64
import json
import re
import zlib
from html import unescape

import pytest
from support.reports import RECORDED, made_up_run, moment, write_evidence

from vfio_lab.campaign.results import Outcome, read_results
from vfio_lab.errors import UsageError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.report import site
from vfio_lab.report.events import MOST_EVENTS, story
from vfio_lab.report.tolerant import LONGEST_LINE, MOST_BYTES, json_lines
from vfio_lab.spec.claims import load_claims, threads

LINK = re.compile(r'<a href="https://[^"]*">[^<]*</a>')  # nothing is fetched unless it is followed


@pytest.fixture
def runs(tmp_path):
    bad = [Outcome.PASSED, Outcome.FAILED, Outcome.KNOWN, Outcome.SKIPPED, Outcome.ERROR]
    return [
        made_up_run(tmp_path / "run-7.3", "7.3", bad),
        made_up_run(tmp_path / "run-6.12", "6.12:debug", [Outcome.PASSED] * 5),
    ]


def scenario_data(site_folder):
    """Return the data of all scenarios' pages, by slug."""
    found = {}
    for path in (site_folder / "data").iterdir():
        slug, data = re.fullmatch(r'show\("(\w+)","(.*)"\);\n', path.read_text()).groups()
        found[slug] = json.loads(zlib.decompress(base64.b64decode(data)))
    return found


def test_a_report_links_to_the_threads(runs, tmp_path):
    content = site.write(runs, tmp_path / "site").read_text()
    linked = [thread for thread in threads().values() if thread.link]
    assert linked
    assert all(f'<a href="{thread.link}">' in content for thread in linked)


def test_a_report_needs_no_network_and_names_no_place_of_the_host(runs, tmp_path):
    target = site.write(runs, tmp_path / "site").parent
    for path in target.rglob("*"):
        content = path.read_text() if path.is_file() else ""
        assert str(tmp_path) not in content, path
        assert "https://" not in LINK.sub("", content), path
        assert "http://" not in content, path


def test_each_scenario_of_each_run_has_its_data(runs, tmp_path):
    target = site.write(runs, tmp_path / "site").parent
    assert len(scenario_data(target)) == 10
    assert {path.name for path in target.glob("results-*")} == {
        "results-7.3.json",
        "results-6.12-debug.json",
    }


def test_a_link_stays_the_same_in_the_next_report(runs, tmp_path):
    before = scenario_data(site.write(runs, tmp_path / "site").parent)
    after = scenario_data(site.write(runs[:1], tmp_path / "other").parent)
    assert {slug: one["name"] for slug, one in after.items()}.items() <= {
        slug: one["name"] for slug, one in before.items()
    }.items()


def test_two_runs_on_one_kernel_stand_side_by_side(runs, tmp_path):
    again = made_up_run(tmp_path / "again", "7.3", [Outcome.PASSED] * 5)
    target = site.write([runs[0], again], tmp_path / "site").parent
    found = scenario_data(target)
    assert len(found) == 10
    assert {one["run"] for one in found.values()} == {"7.3", "7.3 (2)"}


def test_claims_that_did_not_run_are_folded_away(runs, tmp_path):
    content = site.write(runs, tmp_path / "site").read_text()
    before, _, folded = content.partition('<section id="left">')
    ran = {claim for run in runs for one in read_results(run).scenarios for claim in one.claims}
    assert set(re.findall(r'<tr class="claim" id="(\w+)"', before)) == ran
    assert set(re.findall(r'<tr class="claim" id="(\w+)"', folded)) == set(load_claims()) - ran
    assert re.search(r"\s*<details class=\"fold\">", folded)


def test_what_differs_comes_before_the_claims_and_the_worse_before_the_better(tmp_path):
    outcomes = [Outcome.FAILED, Outcome.PASSED, Outcome.PASSED, Outcome.PASSED]
    before = made_up_run(tmp_path / "before", "7.3", outcomes)
    after = made_up_run(
        tmp_path / "after", "7.3+1", [Outcome.PASSED, Outcome.FAILED, Outcome.PASSED]
    )
    content = site.write([before, after], tmp_path / "site").read_text()
    assert content.index('id="differences"') < content.index('id="claims"')
    assert re.findall(r'<tr class="(worse|better|other)"', content) == ["worse", "better"]
    assert "2 of the 3 scenarios that all runs have ended differently" in content
    assert "1 scenarios are not in all runs" in content


def test_a_report_replaces_a_report_and_nothing_else(runs, tmp_path):
    target = tmp_path / "site"
    site.write(runs, target)
    site.write(runs[1:], target)
    assert not (target / "results-7.3.json").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious").touch()
    with pytest.raises(UsageError, match="neither empty nor a report"):
        site.write(runs, tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["precious"]


def test_a_run_without_results_leaves_the_old_report(runs, tmp_path):
    target = tmp_path / "site"
    before = site.write(runs, target).read_text()
    with pytest.raises(UsageError, match=r"holds no results\.json"):
        site.write([tmp_path / "nowhere"], target)
    assert (target / "index.html").read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_kernel_is_told_with_its_base_and_patches(runs, tmp_path):
    path = runs[0] / "results.json"
    results = json.loads(path.read_text())
    results["kernel"] |= {"base": "7.3", "patches": [{"subject": "vfio/pci: <b>x", "sha256": "0"}]}
    path.write_text(json.dumps(results))
    content = unescape(site.write(runs, tmp_path / "site").read_text())
    assert "<li>patches on 7.3:</li><li>vfio/pci: <b>x</li>" in content


def test_of_a_long_timeline_both_ends_are_shown(tmp_path):
    write_evidence(tmp_path, [moment(f"call {at}", at) for at in range(1000)])
    told = story(tmp_path, None).events
    assert [told[0].what, told[-1].what, len(told)] == ["call 0", "call 999", MOST_EVENTS + 1]
    assert [(one.number, one.what) for one in told if one.lane < 0] == [
        (0, f"{1000 - MOST_EVENTS} more are in timeline.json of the evidence")
    ]
    assert told[-1].number == 1000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe[]",
        b'"text"',
        b'{"awake": "soon"}',
        b"[" * 100_000,
        b'[[], 1, {"who": 3}]',
    ],
    ids=["empty", "cut", "no UTF-8", "text", "object", "deep", "of others"],
)
def test_malformed_evidence_makes_a_page_all_the_same(tmp_path, content):
    for name in ("timeline.json", "calls.jsonl", "snapshot.json"):
        (tmp_path / name).write_bytes(content)
    told = story(tmp_path, find_topology("igb"))
    assert [one.what for one in told.events if "cannot be shown" not in one.what] == []
    assert told.picture.title.startswith("igb")


def test_an_endless_line_is_left_out_and_the_next_ones_are_read(tmp_path):
    path = tmp_path / "calls.jsonl"
    with path.open("wb") as file:
        file.write(b'{"first": 1}\n{"long": "')
        file.write(b"x" * (100 << 20))
        file.write(b'"}\n\xff\n{"last": "\xff"}')
    assert list(json_lines(path)) == [{"first": 1}, {"last": "\ufffd"}]
    assert LONGEST_LINE < 100 << 20


def test_a_timeline_of_any_size_is_not_read_into_memory(tmp_path):
    with (tmp_path / "timeline.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    (told,) = story(tmp_path, None).events
    assert told.what == (
        f"timeline.json cannot be shown: it is malformed or too large ({MOST_BYTES + 1} bytes)"
    )


@pytest.mark.parametrize("text", ["\ud800", "\x00\x1b", "\u202e\u2066"])
def test_text_that_is_no_text_is_escaped(runs, tmp_path, text):
    path = runs[0] / "results.json"
    results = json.loads(path.read_text())
    results["scenarios"][1]["reason"] = text
    path.write_text(json.dumps(results))
    write_evidence(runs[0] / "evidence-1", [moment(text, who=text, result=text)])
    content = site.write(runs, tmp_path / "site").read_text()
    assert f"<pre>{ascii(text)[1:-1]}</pre>" in content
    found = json.dumps(list(scenario_data(tmp_path / "site").values()), ensure_ascii=False)
    assert text not in found


def test_evidence_outside_its_run_is_not_shown(runs, tmp_path):
    write_evidence(tmp_path / "secret", [moment("secret")])
    path = runs[0] / "results.json"
    results = json.loads(path.read_text())
    results["scenarios"][0]["evidence"] = "../secret"
    path.write_text(json.dumps(results))
    target = site.write(runs, tmp_path / "site").parent
    assert "secret" not in json.dumps(scenario_data(target))


def test_recorded_runs_are_compared_by_what_they_say(tmp_path):
    content = site.write(RECORDED, tmp_path / "site").read_text()
    assert "2 of the 6 scenarios that all runs have ended differently" in content
    assert '<a class="known"' in content
