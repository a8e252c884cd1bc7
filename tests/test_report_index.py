"""The index of published reports: what is listed, what changed, the feed, the latest one."""

import json
from html import unescape
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from support.reports import EVIL, RECORDED, made_up_run

from vfio_lab.campaign.results import Outcome
from vfio_lab.cli.report import report as command
from vfio_lab.errors import UsageError
from vfio_lab.report import site
from vfio_lab.report.published import MOST_ENTRIES, write_index
from vfio_lab.spec.scenarios import scenario_catalogue

ONE = ["run", "--to", "x"]
ATOM = "{http://www.w3.org/2005/Atom}"
URL = "https://lab.example.org/nightly"
TREE = {"describe": "v7.3-rc1", "dirty": False}
GOOD, BAD = Outcome.PASSED, Outcome.FAILED


@pytest.fixture
def publish(tmp_path):
    """A function that adds a report to the folder of reports."""
    night = iter(range(1, 1000))

    def add(*outcomes, kernel="7.3", name="", **facts):
        number = next(night)
        run = made_up_run(tmp_path / f"run-{number}", kernel, outcomes)
        path = run / "results.json"
        data = json.loads(path.read_text())
        data["started"] += 86_400 * number
        data["kernel"] |= facts
        path.write_text(json.dumps(data))
        return site.write([run], tmp_path / "reports" / (name or f"night-{number:03}")).parent

    return add


@pytest.fixture
def reports(tmp_path):
    return tmp_path / "reports"


def read_feed(reports):
    return ElementTree.parse(reports / "feed.xml").getroot()  # noqa: S314 - written by this test


def test_reports_are_listed_with_what_changed_the_newest_first(publish, reports):
    publish(GOOD, GOOD, BAD)
    second = publish(GOOD, BAD, GOOD)
    content = unescape(write_index(reports).read_text())
    assert content.index('href="night-002/index.html"') < content.index('href="night-001/')
    assert "<h1>1 of 3 scenarios failed, 1 got worse</h1>" in content
    worse, better = list(scenario_catalogue().values())[1:3]
    assert content.index(worse.sentence) < content.index(better.sentence)
    assert "proven before, contradicted now" in content
    (slug,) = [
        path.stem
        for path in (second / "data").iterdir()
        if f'night-002/scenario.html#{path.stem}" class="contradicted"' in content
    ]
    assert slug


def test_scenarios_with_one_sentence_differ_by_their_parameters(publish, reports):
    for report in (publish(GOOD), publish(BAD)):
        path = report / "results-7.3.json"
        nodeid = next(iter(scenario_catalogue()))
        path.write_text(path.read_text().replace(f'"{nodeid}"', f'"{nodeid}[intel-pt]"'))
    assert " [intel-pt]</a> proven before, contradicted now" in write_index(reports).read_text()


def test_what_stays_the_same_is_no_change(publish, reports):
    publish(GOOD, BAD)
    publish(GOOD, BAD)
    content = write_index(reports).read_text()
    assert "nothing since night-001" in content
    assert "got worse" not in content


def test_a_report_is_compared_with_the_last_one_on_its_kernel(publish, reports):
    publish(GOOD, GOOD)
    publish(GOOD, BAD, kernel="6.12")
    publish(GOOD, GOOD)
    content = write_index(reports).read_text()
    assert "nothing since night-001" in content
    assert content.count("first on this kernel") == 2


@pytest.mark.parametrize(
    ("facts", "compared"), [({"git": {"describe": "v7", "dirty": False}}, 1), ({}, 0)]
)
def test_a_tree_is_one_kernel_whatever_its_commit_is(publish, reports, facts, compared):
    publish(GOOD, kernel="linux+0123abcd", **facts)
    publish(BAD, kernel="linux+4567cdef", **facts)
    assert write_index(reports).read_text().count("proven before, contradicted now") == compared


def test_the_feed_has_an_entry_for_each_report(publish, reports):
    publish(GOOD, BAD)
    publish(BAD, GOOD, name="a & b")
    write_index(reports, f"{URL}/")
    feed = read_feed(reports)
    assert [feed.findtext(f"{ATOM}{name}") for name in ("id", "updated")] == [
        f"{URL}/",
        "2027-01-17T08:01:01Z",
    ]
    entries = feed.findall(f"{ATOM}entry")
    assert [entry.findtext(f"{ATOM}id") for entry in entries] == [
        f"{URL}/a%20%26%20b/",
        f"{URL}/night-001/",
    ]
    assert entries[0].findtext(f"{ATOM}title") == "a & b: 1 of 2 scenarios failed, 1 got worse"
    assert "worse: " in entries[0].findtext(f"{ATOM}summary")
    for entry in entries:
        (link,) = entry.findall(f"{ATOM}link")
        assert link.get("href").startswith(f"{URL}/")
        assert entry.findtext(f"{ATOM}updated").endswith("Z")


def test_there_is_no_feed_without_an_address(publish, reports):
    publish(GOOD)
    assert "feed" not in write_index(reports).read_text()
    assert not (reports / "feed.xml").exists()


def test_a_feed_ends_and_the_index_does_not(publish, reports):
    publish(GOOD)
    for number in range(MOST_ENTRIES):
        (reports / f"copy-{number}").symlink_to(reports / "night-001")
    content = write_index(reports, URL).read_text()
    assert content.count("<tbody") == MOST_ENTRIES + 1
    assert len(read_feed(reports).findall(f"{ATOM}entry")) == MOST_ENTRIES


def test_hostile_words_stay_words(publish, reports):
    publish(GOOD, kernel=f"7.3{EVIL}", name="<script>owned()<", release=EVIL)
    content = write_index(reports, URL).read_text()
    assert "<script" not in content
    assert "<img" not in content
    assert "\x1b" not in (reports / "feed.xml").read_text()
    assert read_feed(reports).find(f"{ATOM}entry") is not None


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", '{"schema": 0, "runs": []}', '{"schema": 1, "runs": [{"label": "x"}]}'],
    ids=["cut", "list", "older", "field"],
)
def test_a_report_that_cannot_be_read_is_named_and_not_listed(publish, reports, damage):
    publish(GOOD)
    (publish(GOOD) / "report.json").write_text(damage)
    content = write_index(reports).read_text()
    assert "they are damaged: night-002." in content
    assert 'href="night-002' not in content


def test_an_index_replaces_an_index_and_nothing_else(publish, reports):
    one = publish(GOOD)
    write_index(reports)
    write_index(reports)
    with pytest.raises(UsageError, match="page of its own"):
        write_index(one)
    with pytest.raises(UsageError, match="neither empty nor a report"):
        site.write([RECORDED[0]], reports)
    assert (one / "index.html").exists()


@pytest.mark.parametrize("make", [False, True], ids=["absent", "empty"])
def test_a_folder_without_reports_is_refused(reports, make):
    if make:
        reports.mkdir()
    with pytest.raises(UsageError, match=r"no folder|no report to list"):
        write_index(reports)


def test_the_command_writes_a_report_and_the_index(reports):
    run = str(RECORDED[1])
    told = CliRunner().invoke(command, [run, "--to", f"{reports}/a", "--index", str(reports)])
    assert told.output.split() == [f"{reports}/a/index.html", f"{reports}/index.html"]
    assert 'href="a/index.html"' in (reports / "index.html").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["--to", "x"],
        ["--index", "x", "--url", "lab"],
        ["run", "--to", "x", "--url", URL],
    ],
    ids=["nothing", "run only", "target only", "no address", "no index"],
)
def test_the_command_says_what_it_needs(arguments):
    error = CliRunner().invoke(command, arguments).exception
    assert isinstance(error, UsageError)
    assert "need" in str(error)
