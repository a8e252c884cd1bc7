"""The report: written from runs, opened in a real browser."""

import json
import os
import re
from html import unescape

import pytest
from playwright.sync_api import sync_playwright

from vfio_lab.campaign.results import (
    Outcome,
    Record,
    Results,
    read_results,
)
from vfio_lab.errors import UsageError
from vfio_lab.hw.catalogue import TOPOLOGIES, find_topology
from vfio_lab.machine.state import OpenFile, PciState, Snapshot
from vfio_lab.report import site
from vfio_lab.report.picture import picture
from vfio_lab.report.view import MOST_MOMENTS, ScenarioView
from vfio_lab.spec.claims import load_claims, threads
from vfio_lab.spec.scenarios import scenario_catalogue
from vfio_lab.util.host import which

BROWSER = "chromium-headless-shell"
WAIT_MS = 20_000
LINK = re.compile(r'<a href="https://[^"]*">[^<]*</a>')  # nothing is fetched unless it is followed
NODEID = next(iter(scenario_catalogue()))
EVIL = "</script><script>document.title = 'owned'</script> \u2028 & é"
SEEN = Snapshot(
    (
        PciState("0000:00:01.0", "1b36", "000c", "pcieport", "1", ""),
        PciState("0000:01:00.0", "8086", "10c9", "vfio-pci", "10", ""),
        PciState("0000:01:10.0", "8086", "10ca", "vfio-pci", "11", "0000:01:00.0", "vfio1"),
    ),
    (OpenFile("vf_user", 3, "/dev/vfio/11"), OpenFile("vf_user", 4, "/dev/vfio/vfio")),
)


def a_run(folder, kernel, outcomes):
    """Write a run whose first scenarios ended like that."""
    records = []
    for nodeid, outcome in zip(scenario_catalogue(), outcomes, strict=False):
        scenario = scenario_catalogue()[nodeid]
        evidence = folder / f"evidence-{len(records)}"
        evidence.mkdir(parents=True)
        held = [vars(one) for one in SEEN.held]
        seen = {"functions": [vars(one) for one in SEEN.functions], "held": held}
        (evidence / "snapshot.json").write_text(json.dumps(seen))
        moment = {
            "at": 0.5,
            "took": 0.1,
            "who": "vf_user",
            "what": EVIL,
            "result": "EACCES {count=2}",
        }
        (evidence / "timeline.json").write_text(json.dumps([moment]))
        if outcome is Outcome.FAILED:
            (evidence / "stacks.txt").write_text("remover (pid 7): D\n    remove_store+0x50/0x60\n")
        reason = "" if outcome is Outcome.PASSED else f"because {EVIL}"
        record = Record(nodeid, scenario.claims, "igb", outcome, reason, 0.5, evidence.name)
        records.append(record)
    facts = {"name": kernel, "release": f"{kernel}.0-lab", "digest": "d"}
    host = {"qemu": "10.0.2", "accelerator": "tcg"}
    Results(facts, host, 1.8e9, 61.0, 0, tuple(records)).write(folder)
    return folder


@pytest.fixture
def runs(tmp_path):
    bad = [Outcome.PASSED, Outcome.FAILED, Outcome.KNOWN, Outcome.SKIPPED, Outcome.ERROR]
    return [
        a_run(tmp_path / "run-7.3", "7.3", bad),
        a_run(tmp_path / "run-6.12", "6.12:debug", [Outcome.PASSED] * 5),
    ]


@pytest.fixture(scope="module")
def browser():
    binary = which(BROWSER) or which("chromium")
    if binary is None:
        pytest.skip(f"needs a browser: no {BROWSER} on the PATH")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        arguments = [*sandbox, "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=binary, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    errors = []
    page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108 - it wraps functions only
    yield page
    page.close()
    assert errors == []


def test_a_reader_finds_the_failure_and_what_happened(runs, tmp_path, page):
    index = site.write(runs, tmp_path / "site")
    page.goto(index.as_uri())
    assert page.inner_text("h1") == "2 of 10 scenarios failed"
    page.screenshot(path=tmp_path / "index.png")
    assert (tmp_path / "index.png").stat().st_size > 10_000
    page.click("#failures a")
    page.wait_for_selector("[data-ready]")
    second = list(scenario_catalogue().values())[1]
    assert page.inner_text("h1") == second.sentence
    assert f"pytest '{second.nodeid}' --lab-kernel 7.3" in page.inner_text("#paste")
    assert page.inner_text("#timeline tbody tr td:nth-child(4)") == "EACCES {count=2}"
    assert page.locator("#timeline tr.refused").count() == 1
    assert EVIL.split(maxsplit=1)[0] in page.inner_text("#timeline tbody tr td:nth-child(3)")
    assert page.evaluate("document.getElementById('picture').naturalWidth") > 0
    assert "remove_store+0x50" in page.inner_text("#stacks")
    assert "owned" not in page.title()
    page.click("#claims a")
    page.wait_for_selector("#search")


def test_claims_are_searched_and_filtered_by_keyboard(runs, tmp_path, page):
    page.goto(site.write(runs, tmp_path / "site").as_uri())
    rows = "tbody tr:not([hidden])"
    assert page.locator(rows).count() == len(load_claims())
    page.keyboard.press("/")
    page.keyboard.type("a02")
    page.wait_for_function("document.getElementById('found').textContent")
    assert 0 < page.locator(rows).count() < 10
    page.keyboard.press("Escape")
    page.select_option("#only", "known")
    third = list(scenario_catalogue().values())[2]
    shown = {row.split()[0] for row in page.locator(rows).all_inner_texts()}
    assert shown <= set(third.claims)


def test_a_phone_needs_not_scroll_sideways(runs, tmp_path, page):
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(site.write(runs, tmp_path / "site").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.click("#failures a")
    page.wait_for_selector("[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


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
        assert "http://" not in content.replace("http://www.w3.org/2000/svg", ""), path


def test_guests_that_look_alike_share_a_picture(runs, tmp_path):
    target = site.write(runs, tmp_path / "site").parent
    assert len(list((target / "pictures").iterdir())) == 1
    assert len(list((target / "data").iterdir())) == 10
    assert {path.name for path in target.glob("results-*")} == {
        "results-7.3.json",
        "results-6.12-debug.json",
    }


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


def test_a_picture_says_who_holds_what():
    drawn = picture(find_topology("igb"), SEEN)
    rows = {row.role: row for row in drawn.rows}
    assert rows["pf0 vf0"].holders == ("vf_user 3",)
    assert rows["pf0"].driver == "vfio-pci"
    assert drawn.held == ("vf_user 4: /dev/vfio/vfio",)
    assert [(hull.group, hull.count) for hull in drawn.hulls] == [("1", 1), ("10", 1), ("11", 1)]
    assert "intel-iommu" in drawn.svg()


def test_a_cdev_is_held_by_who_opened_its_node():
    held = (OpenFile("vf_user", 5, "/dev/vfio/devices/vfio1"),)
    rows = {
        row.role: row for row in picture(find_topology("igb"), Snapshot(SEEN.functions, held)).rows
    }
    assert rows["pf0 vf0"].holders == ("vf_user 5",)
    assert rows["pf0"].holders == ()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_can_be_drawn(name):
    drawn = picture(find_topology(name))
    assert len(drawn.rows) == len(find_topology(name).endpoints) + 1
    assert f"<title>{drawn.title}" in unescape(drawn.svg())


def test_members_of_a_group_share_a_hull_where_they_are_neighbours():
    (hull,) = [one for one in picture(find_topology("multifunction")).hulls if one.count > 1]
    assert hull.count == 2


def test_of_a_long_timeline_both_ends_are_shown(runs):
    (run, _) = runs
    moments = [
        {"at": at, "took": 0, "who": "vf_user", "what": f"call {at}", "result": ""}
        for at in range(1000)
    ]
    (run / "evidence-0" / "timeline.json").write_text(json.dumps(moments))
    record = read_results(run).scenarios[0]
    whole = ScenarioView(record, "7.3", run / "evidence-0").timeline()
    assert [whole[0][2], whole[-1][2], len(whole)] == ["call 0", "call 999", MOST_MOMENTS + 1]
    assert [one[2] for one in whole if one[1] == "report"] == [
        f"{1000 - MOST_MOMENTS} more are in timeline.json of the evidence"
    ]
