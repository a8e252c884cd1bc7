"""The documentation: complete, up to date, built without warnings, readable without a network."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vfio_lab

PROJECT = Path(vfio_lab.__file__).parents[2]
PAGES = [*sorted((PROJECT / "docs").glob("*.md")), PROJECT / "README.md"]
MADE_BY_A_COMMAND = frozenset({"changes.md"})  # lines of logs
PROSE = [page for page in PAGES if page.name not in MADE_BY_A_COMMAND]
COLUMNS = 100
PICTURE = re.compile(r"^## Layers$.*?^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOMS_END = 27  # where the picture's rooms end and its words begin
CODE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
FETCHED = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_has_its_place(site):
    home = (site / "index.html").read_text()
    for page in (PROJECT / "docs").glob("*.md"):
        name = page.with_suffix(".html").name
        assert (site / name).is_file()
        assert f'href="{name}"' in home or name == "index.html", f"mkdocs.yml has no {page.name}"


def test_pages_written_by_the_code_are_written(site):
    assert "--lab-kernel=KERNEL" in (site / "options.html").read_text()
    assert "Usage: vfio-lab claims" in (site / "options.html").read_text()
    assert "The user that holds the PF." in (site / "fixtures.html").read_text()
    assert "get_device_fd" in (site / "client.html").read_text()
    for page in site.rglob("*.html"):
        assert "<!-- code says" not in page.read_text(), page


def test_the_table_of_fixtures_is_up_to_date():
    hooks = runpy.run_path(str(PROJECT / "docs" / "hooks.py"))
    page = hooks["FIXTURES_PAGE"].read_text()
    assert hooks["TABLE"].search(page)
    assert hooks["with_fixtures"](page) == page, "run: .venv/bin/python docs/hooks.py"


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_prose_fits_100_columns(page):
    prose = CODE.sub("", page.read_text()).splitlines()
    assert [line for line in prose if len(line) > COLUMNS and not line.startswith("|")] == []


def test_nothing_is_fetched_to_read_it(site):
    fetched = {page.name: FETCHED.findall(page.read_text()) for page in site.rglob("*.html")}
    assert {name: found for name, found in fetched.items() if found} == {}


def test_readme_leads_to_what_is_there():
    links = re.findall(r"\]\((docs/[^)#]+)\)", (PROJECT / "README.md").read_text())
    assert len(links) > 3
    assert [link for link in links if not (PROJECT / link).is_file()] == []


def test_architecture_shows_the_layers_that_hold():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    held = [[name.rpartition(".")[2] for name in layer.split(" | ")] for layer in layers]
    page = (PROJECT / "docs" / "architecture.md").read_text()
    assert [line[:ROOMS_END].split() for line in PICTURE.search(page)[1].splitlines()] == held


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_room_is_in_the_table_of_rooms(page):
    lines = (PROJECT / page).read_text().splitlines()
    cells = (line.split("|")[1] for line in lines if line.startswith("|"))
    named = {room for cell in cells for room in re.findall(r"`(\w+)/`", cell)}
    rooms = {path.parent.name for path in Path(vfio_lab.__file__).parent.glob("*/__init__.py")}
    assert rooms - named == set()
