"""The report in a real browser: read, searched, stepped through and compared, also by keyboard."""

import os
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from support.reports import EVIL, RECORDED, made_up_run

from vfio_lab.campaign.results import Outcome
from vfio_lab.report import site
from vfio_lab.report.published import write_index
from vfio_lab.spec.claims import load_claims
from vfio_lab.spec.scenarios import scenario_catalogue
from vfio_lab.util.host import which

BROWSER = "chromium-headless-shell"
WAIT_MS = 20_000
MOST_STOPS = 100
PHONE = {"width": 360, "height": 640}
CHILD = "A VF stays in use while any process has it open"
FOCUS = """() => {
    const focused = document.activeElement;
    const name = focused === document.body ? "page" : focused.id || focused.className;
    return [name, getComputedStyle(focused).outlineStyle];
}"""
OUTCOMES = [Outcome.PASSED, Outcome.FAILED, Outcome.KNOWN, Outcome.SKIPPED, Outcome.ERROR]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """The first page of a report of two runs with hostile evidence."""
    folder = tmp_path_factory.mktemp("made-up")
    runs = [
        made_up_run(folder / "run-7.3", "7.3", OUTCOMES),
        made_up_run(folder / "run-6.12", "6.12:debug", [Outcome.PASSED] * 5),
    ]
    return site.write(runs, folder / "site").as_uri()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The first page of a report of two recorded runs."""
    return site.write(RECORDED, tmp_path_factory.mktemp("recorded") / "site").as_uri()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The index of two published reports, of which the second is worse."""
    folder = tmp_path_factory.mktemp("published")
    for night, outcomes in enumerate(([Outcome.PASSED] * 5, OUTCOMES)):
        run = made_up_run(folder / f"run-{night}", "7.3", outcomes)
        site.write([run], folder / "site" / f"night {night}")
    return write_index(folder / "site", "https://lab.example.org/nightly").as_uri()


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
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    yield page
    page.close()
    assert errors == []


def scenario_page(page, index, sentence):
    """Open a scenario's page from the list of scenarios; the last run's if there are several."""
    page.goto(index)
    page.click("#scenarios summary")
    page.locator("tr.scenario", has_text=sentence).locator("a").last.click()
    page.wait_for_selector("[data-ready]")


def test_a_reader_finds_the_failure_and_what_happened(made_up, tmp_path, page):
    page.goto(made_up)
    assert page.inner_text("h1") == "2 of 10 scenarios failed"
    page.screenshot(path=tmp_path / "index.png")
    assert (tmp_path / "index.png").stat().st_size > 10_000
    page.click("#failures a")
    page.wait_for_selector("[data-ready]")
    second = list(scenario_catalogue().values())[1]
    assert page.inner_text("h1") == second.sentence
    assert re.search(r"^pytest .*--lab-kernel 7\.3$", page.inner_text("#paste"))
    assert page.inner_text("#timeline tbody tr td:nth-child(5)") == "EACCES {count=2}"
    assert page.locator("#timeline tr.refused").count() == 1
    assert "remove_store+0x50" in page.inner_text("#stacks")
    assert page.inner_text("#machine .function[data-bdf='0000:01:10.0']").startswith("01:10.0")
    page.click("#claims a")
    page.wait_for_selector("#search")


def test_hostile_words_are_shown_and_do_nothing(made_up, page):
    for selector, unfold in (("#failures a", "#next"), ("td.compare a", "#all")):
        page.goto(made_up)
        page.click(selector)
        page.wait_for_selector("[data-ready]")
        page.click(unfold)
        assert "owned" not in page.title()
        assert page.locator("img").count() == 0
        assert EVIL.split(maxsplit=1)[0] in page.inner_text("table tbody")
        assert r"\x1b[31m \u202e" in page.inner_text("table tbody")


def test_what_did_not_run_is_one_click_away(made_up, page):
    page.goto(made_up)
    ran = page.locator("#claims tr.claim").count()
    assert 0 < ran < 20
    assert page.locator("#left tr.claim:visible").count() == 0
    page.click("#left summary")
    assert page.locator("#left tr.claim:visible").count() == len(load_claims()) - ran


def test_a_link_to_a_claim_that_did_not_run_opens_its_place(made_up, page):
    page.goto(made_up)
    claim = page.locator("#left tr.claim").last.get_attribute("id")
    page.goto(f"{made_up}#{claim}")
    page.wait_for_selector(f"#{claim}:target")
    assert page.locator(f"#{claim}").is_visible()


def test_claims_are_searched_and_filtered_by_keyboard(made_up, page):
    page.goto(made_up)
    rows = "tr.claim:not([hidden])"
    page.keyboard.press("/")
    page.keyboard.type("a02")
    page.wait_for_function("document.getElementById('found').textContent")
    assert 0 < page.locator(rows).count() < 10
    page.keyboard.press("Escape")
    page.select_option("#only", "known")
    third = list(scenario_catalogue().values())[2]
    shown = {row.split()[0] for row in page.locator(rows).all_inner_texts()}
    assert shown
    assert shown <= set(third.claims)


def test_steps_by_keyboard_show_the_machine_at_each_call(recorded, page):
    scenario_page(page, recorded, "test_a_killed_parent")
    assert "at the end" in page.inner_text("#when")
    page.locator("#timeline tr", has_text="fork()").locator("a").click()
    page.wait_for_function("document.querySelector('.selected')?.textContent.includes('fork')")
    assert page.locator(".users dt").all_inner_texts() == ["vf_user", "vf_user's child"]
    page.keyboard.press("j")
    assert "kill(SIGKILL)" in page.inner_text("#timeline .selected")
    assert page.locator(".users del").count() == 3
    page.keyboard.press("ArrowRight")
    assert page.locator(".users dt").all_inner_texts() == ["vf_user's child"]
    page.keyboard.press("k")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".users dt").all_inner_texts() == ["vf_user", "vf_user's child"]
    assert re.search(r"#\w+/vf_user\.\d+$", page.url)
    assert page.inner_text("#now").count("fork()") == 1


def test_a_link_leads_to_one_call_and_its_fields(recorded, page):
    scenario_page(page, recorded, "test_a_hot_reset_requires_the_group")
    row = page.locator("#timeline tr", has_text="VFIO_DEVICE_PCI_HOT_RESET(").first
    name = row.get_attribute("id")
    link = f"{page.url}/{name}"
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(".selected")
    assert page.locator(".selected").get_attribute("id") == name
    assert page.locator("tr.fields tr", has_text=".group_fds").count() == 1


def test_lanes_and_look_ups_can_be_hidden(recorded, page):
    scenario_page(page, recorded, "test_a_killed_parent")
    rows = "#timeline tbody tr:visible"
    before = page.locator(rows).count()
    assert page.locator(rows, has_text="readlink(").count() == 0
    page.click("text=look-ups")
    assert page.locator(rows, has_text="readlink(").count() > 0
    page.click("#lanes >> text=kernel")
    assert page.locator("#timeline tr.kernel:visible").count() == 0
    page.click("#lanes >> text=kernel")
    page.click("text=look-ups")
    assert page.locator(rows).count() == before


def test_two_runs_are_compared_call_by_call(recorded, page):
    page.goto(recorded)
    assert page.locator(".behaviour", has_text="fault reason 0x06").count() == 1
    page.click("tr:has-text('test_a_device_cannot_read_memory') td.compare a")
    page.wait_for_selector("[data-ready]")
    rows = "#calls tbody tr:visible"
    differing = page.locator(rows).count()
    assert page.locator(rows, has_text="PTE Read access is not set").count() == 1
    page.click("#all")
    assert page.locator(rows).count() > differing > 0
    page.locator(rows).locator("a").first.click()
    page.wait_for_selector("tr.selected")


def test_a_run_compared_with_itself_does_not_differ(tmp_path, page):
    page.goto(site.write([RECORDED[1], RECORDED[1]], tmp_path / "site").as_uri())
    page.click("#scenarios summary")
    page.click("tr.scenario a")
    page.click("text=compare the calls")
    page.wait_for_selector("#compared[data-ready]")
    assert page.inner_text("#found").startswith("0 of ")
    assert page.locator("#calls tbody tr:visible").count() == 0


def test_a_link_can_be_copied_with_its_sentence(recorded, page):
    scenario_page(page, recorded, "test_a_killed_parent")
    page.locator("#timeline tr", has_text="fork()").locator("a").click()
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.click("#link")
    sentence, verdict, call, link = page.evaluate("window.copied").split("\n")
    assert sentence.startswith(CHILD)
    assert verdict.startswith("proven on 7.3: vf_token/")
    assert call.startswith("vf_user: fork() = ")
    assert link == page.url
    assert page.inner_text("#link") == "Copied"


@pytest.mark.parametrize("selector", [None, "#failures a", "td.compare a"])
def test_a_phone_needs_not_scroll_sideways(made_up, page, selector):
    page.set_viewport_size(PHONE)
    page.goto(made_up)
    if selector:
        page.click(selector)
        page.wait_for_selector("[data-ready]")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_steps_work_on_a_phone(recorded, page):
    page.set_viewport_size(PHONE)
    scenario_page(page, recorded, "test_a_killed_parent")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.click("#back")
    assert page.locator(".selected").count() == 1
    assert page.locator("#now").is_visible()


def test_everything_can_be_reached_by_keyboard(recorded, page):
    scenario_page(page, recorded, "test_a_killed_parent")
    reached = {}
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(FOCUS)
        reached[name] = outline
    assert {"link", "back", "place", "next", "here"} <= set(reached)
    assert {name for name, outline in reached.items() if outline == "none"} <= {"page"}


def test_a_reader_of_the_index_opens_what_got_worse(published, page):
    page.goto(published)
    assert page.inner_text("h1") == "2 of 5 scenarios failed, 2 got worse"
    page.click("tbody >> nth=0 >> li.worse a")
    page.wait_for_selector("[data-ready]")
    assert page.inner_text("#facts b") in ("contradicted", "error")
    assert "night%201/" in page.url


def test_a_link_to_the_latest_report_leads_to_claims_and_scenarios(published, page):
    page.goto(published)
    link = page.locator("li.worse a").first.get_attribute("href")
    for hash_, leads_to in (
        ("", "index.html"),
        ("#A02", "index.html#A02"),
        (f"#{link.partition('#')[2]}", link.rpartition("/")[2]),
    ):
        page.goto("about:blank")
        page.goto(published.replace("index.html", "latest.html") + hash_)
        page.wait_for_url(f"**/night%201/{leads_to}")


def test_an_unknown_scenario_is_said_to_be_unknown(recorded, page):
    for name in ("scenario", "compare"):
        page.goto(f"{recorded.replace('index', name)}#no-such~scenario")
        page.wait_for_function("/no such scenario/.test(document.body.innerText)")


def test_the_index_fits_a_phone_and_keeps_the_rules_of_accessibility(published, page):
    page.set_viewport_size(PHONE)
    page.goto(published)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert violations(page) == []


def violations(page):
    """Return what breaks the rules of axe-core, with the elements that do."""
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"][:3]]) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("selector", [None, "#failures a", "td.compare a"])
def test_pages_keep_the_rules_of_accessibility(made_up, page, selector, scheme):
    """Names, roles, order and contrast, by the rules of axe-core."""
    page.emulate_media(color_scheme=scheme)
    page.goto(made_up)
    if selector:
        page.click(selector)
        page.wait_for_selector("[data-ready]")
        page.keyboard.press("k")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert violations(page) == []
