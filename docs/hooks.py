"""Parts of the pages that the code writes.

MkDocs replaces `<!-- code says: options -->` and `<!-- code says: commands -->` when it builds the
site. The table of fixtures is committed, for people who read the repository; after a change of a
fixture `python docs/hooks.py` writes it anew.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from vfio_lab.cli import main

PROJECT = Path(__file__).resolve().parent.parent
FIXTURES_PAGE = PROJECT / "docs" / "fixtures.md"
TABLE = re.compile(r"(?<=<!-- begin: fixtures -->\n).*(?=<!-- end: fixtures -->)", re.DOTALL)
MARKER = re.compile(r"<!-- code says: (\w+) -->")
COLUMNS = 96
GROUP = "the virtual SR-IOV laboratory:\n"
FIXTURE = re.compile(
    r"^(\w+)(?: \[(\w+) scope\])? -- (fixtures/vfio_lab_pytest/\w+\.py):(\d+)\n((?: .*\n|\n)*)",
    re.MULTILINE,
)


def on_config(config: Any) -> None:
    """Add pages that mkdocs.yml does not name to the end of the reference."""
    named = repr(config.nav)
    (reference,) = [part["Reference"] for part in config.nav if "Reference" in part]
    pages = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    reference += [page for page in pages if f"'{page}'" not in named]


def on_page_markdown(markdown: str, **_facts: Any) -> str:
    """Replace each marker by the text that the code writes."""
    return MARKER.sub(lambda found: SAYS[found[1]](), markdown)


def options() -> str:
    """Return pytest's help text for the lab's options."""
    _before, _group, after = _pytest("--help").partition(GROUP)
    return _verbatim(after.partition("\n\n")[0])


def commands() -> str:
    """Return the help text of every command of `vfio-lab`."""
    return "\n\n".join(_helps(main, click.Context(main, info_name="vfio-lab")))


def with_fixtures(page: str) -> str:
    """Return docs/fixtures.md with its table as the code has it now."""
    return TABLE.sub(lambda _old: f"\n{fixtures()}\n\n", page)


def fixtures() -> str:
    """Return a table for each file of fixtures: names, and first paragraphs of docstrings."""
    files: dict[str, list[str]] = {}
    found = FIXTURE.findall(_pytest("--fixtures", "tests/guests"))
    for name, scope, file, _line, text in sorted(found, key=lambda one: (one[2], int(one[3]))):
        first, *_ = text.strip().split("\n\n")
        shared = f" (scope: {scope})" if scope else ""
        row = f"| `{name}`{shared} | {' '.join(first.split()).replace('|', '&#124;')} |"
        files.setdefault(file, ["| fixture | what it is |", "| --- | --- |"]).append(row)
    return "\n\n".join(
        "\n".join([f"### {Path(file).stem}\n\n{_about(PROJECT / file)}\n", *rows])
        for file, rows in files.items()
    )


def _about(path: Path) -> str:
    about, *_ = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")
    return about


def _helps(command: click.Command, context: click.Context) -> Iterator[str]:
    level = "#" * (3 + context.command_path.count(" "))
    context.max_content_width = context.terminal_width = COLUMNS
    yield f"{level} {context.command_path}\n\n{_verbatim(command.get_help(context))}"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            yield from _helps(below, click.Context(below, info_name=name, parent=context))


def _pytest(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", *arguments]
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment = {**ours, "COLUMNS": str(COLUMNS)}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def _verbatim(text: str) -> str:
    return f"```text\n{text.strip(chr(10))}\n```"


SAYS = {"options": options, "commands": commands}

if __name__ == "__main__":
    FIXTURES_PAGE.write_text(with_fixtures(FIXTURES_PAGE.read_text()))
