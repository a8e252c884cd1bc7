"""Pages that are written by the code itself: a marker in the page becomes what the code says.

`<!-- code says: options -->`, `commands` and `fixtures` are known.
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
MARKER = re.compile(r"<!-- code says: (\w+) -->")
COLUMNS = 96
GROUP = "the virtual SR-IOV laboratory:\n"
FIXTURE = re.compile(
    r"^(\w+)(?: \[(\w+) scope\])? -- (fixtures/vfio_lab_pytest/\w+\.py):\d+\n((?: .*\n|\n)*)",
    re.MULTILINE,
)


def on_config(config: Any) -> None:
    """Give pages that mkdocs.yml does not place a place at the end of the reference."""
    named = repr(config.nav)
    (reference,) = [part["Reference"] for part in config.nav if "Reference" in part]
    pages = sorted(path.name for path in Path(config.docs_dir).glob("*.md"))
    reference += [page for page in pages if f"'{page}'" not in named]


def on_page_markdown(markdown: str, **_facts: Any) -> str:
    """Put what the code says in place of each marker."""
    return MARKER.sub(lambda found: SAYS[found[1]](), markdown)


def options() -> str:
    """Return pytest's help on the lab's options."""
    _before, _group, after = _pytest("--help").partition(GROUP)
    return _verbatim(after.partition("\n\n")[0])


def commands() -> str:
    """Return the help of every command of `vfio-lab`."""
    return "\n\n".join(_helps(main, click.Context(main, info_name="vfio-lab")))


def fixtures() -> str:
    """Return the fixtures that scenarios have, file by file, each with its docstring."""
    files: dict[str, list[str]] = {}
    for name, scope, file, text in FIXTURE.findall(_pytest("--fixtures", "tests/guests")):
        first, *_ = text.strip().split("\n\n")
        shared = f", one for the {scope}" if scope else ""
        row = f"| `{name}`{shared} | {' '.join(first.split()).replace('|', '&#124;')} |"
        files.setdefault(file, ["| fixture | what it is |", "| --- | --- |"]).append(row)
    return "\n\n".join(
        "\n".join([f"## {file}\n\n{_about(PROJECT / file)}\n", *rows])
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


SAYS = {"options": options, "commands": commands, "fixtures": fixtures}
